/**
 * The runtime of bare-metal guests: where a program of guest/bare finds itself.
 */
import { join } from 'node:path'
import { VIRTIO_MMIO_BASE } from '@vmm/devices/virtio'
import { beforeAll, expect, test } from 'vitest'
import { buildBareGuest } from '../../guest/bare/build.mjs'
import { runVmmWithReport } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'

const HELLO = join(import.meta.dirname, '../../guest/bare/programs/hello.c')
const VIRTIO_ID_RNG = 4
const PAGE_FAULT = 14

let kernel: string

const hello = (memory: number, cmdline: string) =>
  runVmmWithReport([
    ...['run', '--kernel', kernel, '--entry', 'pvh', '--cmdline', cmdline],
    ...['--memory', String(memory), '--rng'],
  ])

describeWithKvm('a bare-metal guest', () => {
  beforeAll(async () => {
    kernel = await buildBareGuest(HELLO)
  })

  test('runs at CPL 3, with its memory and its devices', async () => {
    const { stdout, report } = await hello(64, 'hello')
    expect(stdout.replaceAll('\r', '').split('\n')).toEqual([
      'hello: cpl 3',
      'hello: ram 0x0 0x9fc00',
      'hello: ram 0x100000 0x3f00000',
      `hello: virtio ${VIRTIO_ID_RNG} at 0x${VIRTIO_MMIO_BASE.toString(16)}`,
      '',
    ])
    expect(report.reason).toBe('the guest ended the VM with 0')
  })

  test('reaches memory above 4 GiB', async () => {
    const { stdout, report } = await hello(6000, 'hello')
    expect(stdout).toContain('hello: ram 0x100000000 0xa7000000')
    expect(report.reason).toBe('the guest ended the VM with 0')
  })

  test('reports the exception that ends it', async () => {
    const { stdout, report } = await hello(64, 'hello=fault')
    expect(stdout).toMatch(
      new RegExp(`died: exception ${PAGE_FAULT}, error 0x6, at 0x[0-9a-f]+, CR2 0x400000000000`),
    )
    expect(report.reason).toBe('the guest ended the VM with 1')
  })
})
