/**
 * Linux under load on two CPUs, paused, saved and restored again and again: disk writes, frames and timers go on where they
 * were, and nothing of them is lost.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openDisk } from '@vmm/block'
import { Blk, Net, UserNetwork } from '@vmm/devices/virtio'
import { type AttachDevice, stateFromJson, stateToJson } from '@vmm/microvm'
import { Snapshot, writeSnapshot } from '@vmm/snapshot'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type ClockReading, clockDrift, clockReading, hostSeconds } from '../support/guest-clock.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { LinuxVm } from '../support/microvm.ts'

const CYCLES = 100
/** The VM runs on for up to so long when it has said something. */
const RUN_WITHIN_MS = 50
/** How far the guest's clock may get from the host's. */
const CLOCK_TOLERANCE_S = 3
/** What guest/programs/busy.c says, and what it writes. */
const WORK = ['disk', 'net', 'time']
const RECORD_SIZE = 4096
const RECORDS = 64

let folder: string

/** A network on which everything comes back. */
const echo: AttachDevice = (host) => {
  const network: UserNetwork = new UserNetwork({ receive: (frame) => network.send(frame) })
  host.virtio.attach(new Net({ network, mac: '02:00:00:00:00:01' }))
}

/** How far a guest has come. */
function last(output: string, what: string): number {
  return Number([...output.matchAll(new RegExp(`^${what} (\\d+)\\n`, 'gm'))].at(-1)?.[1] ?? 0)
}

async function readClock(guest: LinuxVm, when: string): Promise<ClockReading> {
  const asked = hostSeconds()
  guest.type(`date +"${when} %s"`)
  const [, seconds] = await guest.until(new RegExp(`^${when} (\\d+)\\n`, 'm'))
  return clockReading(seconds, asked)
}

describeWithKvm('Linux under load', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-cycles-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test(`goes on after each of ${CYCLES} times that it is saved and restored, and loses nothing`, async () => {
    const image = join(folder, 'disk.img')
    const saved = join(folder, 'saved')
    writeFileSync(image, Buffer.alloc(RECORDS * RECORD_SIZE))
    const disk: AttachDevice = (host) => host.virtio.attach(new Blk({ disk: host.own(openDisk(image)) }))
    const devices = [disk, echo]
    let guest = await LinuxVm.start({
      devices,
      cpus: 2,
      initrd: 'programs.cpio',
      shape: 'disk and echo',
    })
    const clockBefore = await readClock(guest, 'before')
    // The shell's line comes back while the guest prints.
    guest.type('ifconfig eth0 up; busy /dev/vda eth0')
    for (const what of WORK) await guest.until(new RegExp(`^${what} 2\n`, 'm'))
    let output = guest.output
    const kinds = { full: 0, differential: 0 }
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const next = WORK.map((what) => `${what} ${last(output, what) + 1}`)
      await guest.until(new RegExp(`^(?:${next.join('|')})\n`, 'm'))
      await sleep(Math.random() * RUN_WITHIN_MS)
      await guest.vm.pause()
      const state = stateToJson(await guest.vm.state())
      const { kind } = await writeSnapshot(saved, { state, memory: guest.vm.memory, differential: true })
      kinds[kind]++
      output = guest.output
      guest.vm.stop('saved')
      await guest.ended
      expect(guest.warnings).toEqual([])
      const snapshot = Snapshot.open(saved)
      guest = await LinuxVm.restore(stateFromJson(snapshot.state), snapshot.mapMemory(), {
        devices,
        output,
      })
      snapshot.close()
    }
    for (const what of WORK) {
      await guest.until(new RegExp(`^${what} ${last(output, what) + 3}\n`, 'm'))
    }
    guest.type('\x03')
    expect(clockDrift(clockBefore, await readClock(guest, 'after'))).toBeLessThan(CLOCK_TOLERANCE_S)
    guest.type('poweroff')
    await guest.ended

    expect(guest.output).not.toContain('bad')
    for (const what of WORK) {
      const numbers = [...guest.output.matchAll(new RegExp(`^${what} (\\d+)\\n`, 'gm'))].map(([, n]) =>
        Number(n),
      )
      expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, index) => index + 1))
    }
    const written = last(guest.output, 'disk')
    const content = new DataView(Uint8Array.from(readFileSync(image)).buffer)
    for (let number = Math.max(1, written - RECORDS + 1); number <= written; number++) {
      const found = content.getUint32((number % RECORDS) * RECORD_SIZE, true)
      // One more may be there than was said.
      expect([number, number + RECORDS]).toContain(found)
    }
    expect(kinds.differential).toBeGreaterThan(CYCLES / 2)
  })
})
