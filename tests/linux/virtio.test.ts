/**
 * Virtio devices under their real drivers, in a real Linux on real KVM.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { commandLine } from '../../guest/cmdline.mjs'
import { guestFile, startVmm } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'

let folder: string

/** Runs shell commands in a guest with more devices; gives what it printed and the exits by kind. */
async function shell(commands: readonly string[], ...devices: string[]) {
  const report = join(folder, 'report.json')
  const vmm = startVmm(
    [
      'run',
      ...['--kernel', guestFile('vmlinux'), '--initrd', guestFile('busybox.cpio')],
      ...['--memory', '64', '--cmdline', commandLine(), '--timeout', '240', '--report', report],
      ...devices,
    ],
    { stdin: 'pipe' },
  )
  vmm.child.stdin?.end(`${[...commands, 'poweroff'].join('\n')}\n`)
  const { status, stdout, stderr } = await vmm.result
  expect(stderr).toBe('')
  expect(status).toBe(0)
  return { output: stdout.replaceAll('\r', ''), exits: JSON.parse(readFileSync(report, 'utf8')).exits }
}

describeWithKvm('virtio in Linux', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-virtio-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('virtio-rng serves hundreds of requests without an exit for any of them', async () => {
    const { output, exits } = await shell(
      [
        'echo "source $(cat /sys/class/misc/hw_random/rng_current)"',
        'echo "got $(head -c 20000 /dev/hwrng | wc -c)"',
        'echo "interrupts $(grep virtio /proc/interrupts)"',
      ],
      '--rng',
    )
    expect(output).toMatch(/^source virtio_rng\.0$/m)
    expect(output).toMatch(/^got 20000$/m)
    const interrupts = Number(/^interrupts +\d+: +(\d+) .*virtio0/m.exec(output)?.[1])
    expect(interrupts).toBeGreaterThan(200)
    // The registers are set up by exits, some twenty of them; requests and interrupts are not among these.
    expect(exits['mmio-read']).toBeUndefined()
    expect(exits['mmio-write']).toBeLessThan(50)
  })
})
