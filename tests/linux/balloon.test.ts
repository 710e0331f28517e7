/**
 * virtio-balloon under Linux's driver: memory goes back to the host, and comes again when the guest wants it.
 */
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { Balloon, type BalloonOptions, type BalloonStatistics, Console } from '@vmm/devices/virtio'
import type { AttachDevice } from '@vmm/microvm'
import { expect, test } from 'vitest'
import { describeWithKvm } from '../support/kvm.ts'
import { runLinux } from '../support/linux.ts'
import { LinuxVm } from '../support/microvm.ts'
import { guestPssKib } from '../support/pss.ts'

const KIB = 2 ** 10
const MIB = 2 ** 20
const PAGE_SIZE = 4096
/** In MiB: two more than where the kernel ends. A page for the balloon is a millisecond where kernels are interpreted. */
const MEMORY = 30
/** What a balloon that is nearly all of the guest's memory leaves free, about, and what a program wants then: in bytes. */
const LEFT = 3 * MIB
const TAKEN = 5 * MIB

const roundDown = (bytes: number) => Math.floor(bytes / PAGE_SIZE) * PAGE_SIZE

/** A guest that has been running for long: it has touched all of its memory once. */
const touchAll: AttachDevice = ({ memory }) => {
  for (const { bytes } of memory.regions) {
    for (let at = 0; at < bytes.length; at += PAGE_SIZE) bytes[at] = bytes[at] as number
  }
}

async function startWithBalloon(shape: string, options: Omit<BalloonOptions, 'memory'>) {
  let balloon: Balloon | undefined
  // What is typed comes back character by character: this shell's commands come by a port.
  let commands: Duplex | undefined
  const linux = await LinuxVm.start({
    memory: MEMORY,
    initrd: 'programs.cpio',
    shape,
    devices: [
      touchAll,
      (host) => {
        const console = new Console({ ports: [{ name: 'commands' }] })
        commands = console.port('commands').open()
        host.virtio.attach(console)
      },
      (host) => {
        balloon = host.own(new Balloon({ memory: host, ...options }))
        host.virtio.attach(balloon, { hostFailure: (error) => host.warn(String(error)) })
      },
    ],
  })
  linux.type('sh </dev/vport0p0')
  const run = (line: string) => commands?.write(`${line}\n`)
  return { linux, balloon: balloon as Balloon, run }
}

/** Waits until something holds; the guest's end, or the test's, ends it otherwise. */
async function eventually(linux: LinuxVm, holds: () => boolean): Promise<void> {
  let hasEnded = false
  linux.ended.then(() => {
    hasEnded = true
  })
  while (!holds()) {
    if (hasEnded) throw new Error(`the guest has ended:\n${linux.output}`)
    await sleep(20)
  }
}

describeWithKvm('virtio-balloon in Linux', () => {
  test('inflates and deflates, reports free pages, and sends statistics', async () => {
    const all: BalloonStatistics[] = []
    const { linux, balloon, run } = await startWithBalloon('balloon that reports', {
      reporting: true,
      statisticsInterval: 500,
      events: { statistics: (statistics) => all.push(statistics) },
    })
    // Blocks of 4 MiB, of which there must be 32, are none for a guest as small as this.
    run('echo 3 > /sys/module/page_reporting/parameters/page_reporting_order; echo up')
    await linux.until(/^up$/m)
    const before = guestPssKib(linux.vm.memory)
    expect(before).toBe(MEMORY * KIB)

    balloon.setTarget(4 * MIB)
    await eventually(linux, () => balloon.actual === balloon.target)
    const inflated = guestPssKib(linux.vm.memory)
    expect(inflated).toBeLessThanOrEqual(before - 4 * KIB)
    await eventually(linux, () => all.length > 2)
    const { totalMemory = 0, freeMemory = 0 } = all.at(-1) ?? {}
    expect(totalMemory).toBeGreaterThan(8 * MIB)
    expect(totalMemory).toBeLessThan(MEMORY * MIB)
    expect(freeMemory).toBeLessThan(totalMemory)

    balloon.setTarget(0)
    await eventually(linux, () => balloon.actual === 0)
    // What has been freed by then makes Linux report what is free, two seconds later.
    await eventually(linux, () => guestPssKib(linux.vm.memory) <= inflated - KIB)
    run('echo alive; poweroff')
    expect((await linux.ended).kind).toBe('reset')
    expect(linux.output).toMatch(/^alive$/m)
    expect(linux.warnings).toEqual([])
  })

  test('gives pages back to a program that wants more than the balloon has left', async () => {
    const all: BalloonStatistics[] = []
    const { linux, balloon, run } = await startWithBalloon('balloon that deflates', {
      deflateOnOom: true,
      statisticsInterval: 500,
      events: { statistics: (statistics) => all.push(statistics) },
    })
    const freeNow = async () => {
      const count = all.length
      await eventually(linux, () => all.length > count)
      return all.at(-1)?.freeMemory ?? 0
    }
    run('echo 3 > /proc/sys/vm/drop_caches; echo up')
    await linux.until(/^up$/m)
    balloon.setTarget(roundDown((await freeNow()) - LEFT))
    await eventually(linux, () => balloon.actual === balloon.target)
    const inflated = guestPssKib(linux.vm.memory)
    const left = await freeNow()
    expect(left).toBeLessThan(TAKEN)

    run(`take ${TAKEN / KIB}; echo "status $?"`)
    await linux.until(/^status \d+\n/m)
    expect(linux.output).toMatch(new RegExp(`^take: had ${TAKEN / KIB} KiB$`, 'm'))
    expect(balloon.actual).toBeLessThanOrEqual(balloon.target - (TAKEN - left))
    expect(guestPssKib(linux.vm.memory)).toBeGreaterThan(inflated)
    expect(Math.min(...all.map(({ freeMemory = 0 }) => freeMemory))).toBeLessThan(MIB)
    // What the program had is free when it has ended: the driver does not put it back into the balloon by itself.
    await eventually(linux, () => (all.at(-1)?.freeMemory ?? 0) > left)

    run('dmesg | grep -ci -e oom -e "out of memory"; echo alive; poweroff')
    expect((await linux.ended).kind).toBe('reset')
    expect(linux.output).toMatch(/^0\nalive$/m)
    expect(linux.warnings).toEqual([])
  })

  test('is an option of example-vmm, for a guest that boots with it', async () => {
    const { output, report } = await runLinux(['sleep 2', 'grep MemTotal /proc/meminfo'], {
      devices: ['--balloon', 'target=2M,reporting=on,deflate-on-oom=off,stats=1'],
      memory: MEMORY,
    })
    const total = Number(/MemTotal: +(\d+) kB/.exec(output)?.[1])
    expect(report.balloon).toMatchObject({ target: 2 * MIB, actual: 2 * MIB })
    // Without deflation on OOM what is in the balloon does not count any more.
    expect(report.balloon?.statistics?.totalMemory).toBe(total * KIB)
    expect(report.balloon?.discarded).toBeGreaterThanOrEqual(2 * MIB)
  })
})
