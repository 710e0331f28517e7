/**
 * The lean kernel boots on real KVM, in every way that there is into it.
 */
import { expect, test } from 'vitest'
import { commandLine } from '../../guest/cmdline.mjs'
import { guestFile, runVmmWithReport } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'

const VERSION = /Linux version 6\.\d+/

function boot(kernel: string, ...more: string[]) {
  return runVmmWithReport([
    'run',
    ...['--kernel', guestFile(kernel)],
    ...['--initrd', guestFile('initramfs.cpio')],
    ...['--memory', '64'],
    ...['--cmdline', commandLine()],
    ...['--timeout', '240'],
    ...more,
  ])
}

describeWithKvm('Linux', () => {
  test('boots from an ELF file to its init and powers off', async () => {
    const { status, stdout, stderr, report } = await boot('vmlinux')
    expect(stderr).toBe('')
    expect(stdout).toMatch(VERSION)
    expect(status).toBe(0)
    expect(report.status).toBe(0)
    const { vmReady, firstRun, bootMarker, exit } = report.times
    const times = [vmReady, firstRun, bootMarker, exit].map(Number)
    expect(times).not.toContain(0)
    expect(times).toEqual([...times].sort((a, b) => a - b))
    expect(report.exits['io-out']).toBeGreaterThan(0)
    const { peakRssKib, rssKib, guestRssKib } = report.memory
    expect(guestRssKib).toBeGreaterThan(0)
    expect(guestRssKib).toBeLessThanOrEqual(64 * 1024)
    expect(rssKib).toBeGreaterThan(guestRssKib)
    expect(peakRssKib).toBeGreaterThanOrEqual(rssKib)
  })

  test('boots with two CPUs', async () => {
    const { status, stdout } = await boot(
      'vmlinux',
      '--cpus',
      '2',
      '--cmdline',
      commandLine('vmm.test=hello,smp'),
    )
    expect(stdout).toMatch(/cpus(:| online:?) 2/i)
    expect(status).toBe(0)
  })

  test('boots through the PVH entry', async () => {
    const { status, stdout } = await boot('vmlinux', '--entry', 'pvh')
    expect(stdout).toMatch(VERSION)
    expect(status).toBe(0)
  })

  test('boots from a bzImage that is unpacked on the host', async () => {
    const { status, stdout } = await boot('bzImage')
    expect(stdout).toMatch(VERSION)
    expect(status).toBe(0)
  })

  test('boots from a bzImage that unpacks itself', async () => {
    const { status, stdout } = await boot('bzImage', '--entry', 'bzimage')
    expect(stdout).toMatch(VERSION)
    expect(status).toBe(0)
  })
})
