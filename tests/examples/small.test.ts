/**
 * examples/small as its readers run it: on the built packages, each to its end.
 */
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { startNode } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'

const folder = fileURLToPath(new URL('../../examples/small/', import.meta.url))
const VITEST = fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url))

/** What an example prints; fails where that is not all. */
async function run(...args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await startNode(args).result
  expect(stderr).toBe('')
  expect(status, stdout).toBe(0)
  return stdout
}

const example = (name: string): Promise<string> => run(`${folder}${name}`)

describe('examples/small without KVM', () => {
  test('virtqueue.js walks a request, answers it, and survives a malformed one', async () => {
    const output = await example('virtqueue.js')
    expect(output).toMatch(/^to read: 3 bytes at \d+\nto read: 14 bytes at \d+\nto write: 32 bytes at \d+\n/)
    expect(output).toContain('a bad request: a buffer is not in guest memory\n')
    expect(output).toContain("request 0 is back with 10 bytes: '14 letters'\n")
  })

  test('own-device.js answers in capitals', async () => {
    expect(await example('own-device.js')).toBe('HELLO FROM A DRIVER\n')
  })

  test('load-kernel.js finds in the Buffer what the kernel will find', async () => {
    const output = await example('load-kernel.js')
    expect(output).toMatch(/^elf: 0x1000000 to 0x[0-9a-f]+\nentered at 0x1000000: [0-9a-f]{16} \.\.\.\n/)
    expect(output).toContain('its command line: console=ttyS0 quiet\nits memory map: 3 ranges\n')
  })
})

describeWithKvm('examples/small with a virtual CPU', () => {
  test('real-mode.js prints what its guest prints', async () => {
    expect(await example('real-mode.js')).toBe('hello from 16 bits\n')
  })
})

describeWithKvm('examples/small with Linux', () => {
  test('async-disk.js reads sectors that a function makes up', async () => {
    const lines = (await example('async-disk.js')).split('\n')
    for (const sector of [0, 1_000_000, 2 ** 31 - 1]) expect(lines).toContain(`[guest] sector ${sector}`)
    expect(lines).toContain('[guest] sectors: 2147483648')
    expect(lines.filter((line) => line.startsWith('[host] ')).length).toBeGreaterThanOrEqual(3)
  })

  test('http-over-vsock.js answers the guest', async () => {
    const output = (await example('http-over-vsock.js')).replaceAll('\r', '')
    expect(output).toMatch(/^\[host\] GET \/hello\nHTTP\/1\.1 200 OK\n/)
    expect(output).toContain(`\n\nhello from Node.js ${process.versions.node}\n`)
  })

  test('two-vms.js has one VM read what the other serves', async () => {
    const output = await example('two-vms.js')
    expect(output).toContain('[wire] 02:00:00:00:00:02 asks everybody\n')
    expect(output).toContain('[bob] hello from Ada\n')
  })

  test('microvm.test.js gives each of its tests a guest', async () => {
    expect(await run(VITEST, 'run', '--root', folder, '--no-color')).toMatch(/Tests {2}2 passed \(2\)/)
  })
})
