/**
 * Linux that is paused, saved to a folder, and goes on: in the same VM, and in others.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Rng } from '@vmm/devices/virtio'
import { type AttachDevice, stateFromJson, stateToJson } from '@vmm/microvm'
import { Snapshot, writeSnapshot } from '@vmm/snapshot'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { clockDrift, clockReading, hostSeconds } from '../support/guest-clock.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { LinuxVm } from '../support/microvm.ts'

/** How far the guest's clock may get from the host's. */
const CLOCK_TOLERANCE_S = 3
/** How long the saved VM is away. Longer than the tolerance, or a clock that stood still would do. */
const AWAY_MS = 12_000

const devices: readonly AttachDevice[] = [(host) => host.virtio.attach(new Rng())]

let folder: string

describeWithKvm('a saved VM', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-saved-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('goes on where it was, in two others at once and in itself, and its clock is right', async () => {
    const guest = await LinuxVm.start({ devices, shape: 'rng' })
    const typed = hostSeconds()
    guest.type('i=0; while true; do i=$((i+1)); echo "count $i $(date +%s)"; sleep 0.05; done')
    const [, saidBefore] = await guest.until(/^count 5 (\d+)\n/m)
    const clockBefore = clockReading(saidBefore, typed)
    await guest.vm.pause()
    await guest.vm.pause()
    await writeSnapshot(folder, { state: stateToJson(await guest.vm.state()), memory: guest.vm.memory })
    const before = Number([...guest.output.matchAll(/^count (\d+) \d+\n/gm)].at(-1)?.[1])
    guest.vm.resume()
    await guest.until(new RegExp(`^count ${before + 5} `, 'm'))

    await sleep(AWAY_MS)
    const restored = hostSeconds()
    const snapshot = Snapshot.open(folder)
    const clones = await Promise.all(
      [0, 1].map(() => LinuxVm.restore(stateFromJson(snapshot.state), snapshot.mapMemory(), { devices })),
    )
    snapshot.close()
    for (const vm of [...clones, guest]) {
      const [, said] = await vm.until(new RegExp(`^count ${before + 5} (\\d+)\\n`, 'm'))
      if (vm !== guest) {
        expect(vm.output).not.toMatch(/^count [0-4] /m)
        expect(clockDrift(clockBefore, clockReading(said, restored))).toBeLessThan(CLOCK_TOLERANCE_S)
      }
      vm.vm.stop('seen')
      expect((await vm.ended).kind).toBe('stopped')
    }
  })
})
