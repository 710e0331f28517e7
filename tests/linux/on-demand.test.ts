/**
 * A saved Linux whose pages come from a module in a worker when they are touched: by its vCPU, and by this thread, which runs
 * its devices.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Rng } from '@vmm/devices/virtio'
import { type AttachDevice, type MicroVmState, stateFromJson, stateToJson } from '@vmm/microvm'
import { Snapshot, writeSnapshot } from '@vmm/snapshot'
import type { MemoryRange } from '@vmm/vm-memory'
import type { PageServer } from '@vmm/vm-memory/on-demand'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bundleOnDemand, noUserFaultFd } from '../../packages/vm-memory/test/on-demand-bundle.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { LinuxVm } from '../support/microvm.ts'

/** As tests/support/file-pages.mjs has them. */
const ASKED = 0
const FAILS = 1

const devices: readonly AttachDevice[] = [(host) => host.virtio.attach(new Rng())]

let folder: string
let bundled: Awaited<ReturnType<typeof bundleOnDemand>>
let state: MicroVmState
let ranges: readonly MemoryRange[]
let memoryFile: string

function restore(server: PageServer): Promise<LinuxVm> {
  return LinuxVm.restore(state, server.map(ranges), { devices })
}

async function start(control: SharedArrayBuffer): Promise<PageServer> {
  const module = new URL('../support/file-pages.mjs', import.meta.url)
  return await bundled.module.PageServer.start(module, { data: { path: memoryFile, control } })
}

async function stop(guest: LinuxVm): Promise<void> {
  guest.vm.stop('seen')
  expect((await guest.ended).kind).toBe('stopped')
}

describeWithKvm('a saved VM with memory on demand', () => {
  describe.skipIf(noUserFaultFd !== '')(`userfaultfd${noUserFaultFd}`, () => {
    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'vmm-on-demand-'))
      bundled = await bundleOnDemand()
      const guest = await LinuxVm.start({ devices, shape: 'rng' })
      guest.type('x=saved; echo "ready $((40 + 2))"')
      await guest.until(/^ready 42\n/m)
      await guest.vm.pause()
      const saved = join(folder, 'saved')
      await writeSnapshot(saved, { state: stateToJson(await guest.vm.state()), memory: guest.vm.memory })
      await stop(guest)
      const snapshot = Snapshot.open(saved)
      state = stateFromJson(snapshot.state)
      ranges = snapshot.manifest.memory.ranges
      memoryFile = join(saved, snapshot.manifest.memory.layers[0]?.file ?? '')
      snapshot.close()
    })
    afterAll(() => {
      bundled.remove()
      rmSync(folder, { recursive: true })
    })

    test('goes on, as do others of the same server, with a fraction of the pages; saved again it has all of them', async () => {
      const control = new SharedArrayBuffer(8)
      const server = await start(control)
      const clones = await Promise.all([restore(server), restore(server)])
      for (const [index, clone] of clones.entries()) {
        clone.type(`head -c 64 /dev/hwrng >/bytes && echo "$x clone ${index}"`)
        await clone.until(new RegExp(`^saved clone ${index}\\n`, 'm'))
      }
      const size = ranges.reduce((sum, range) => sum + range.size, 0)
      const asked = Atomics.load(new Int32Array(control), ASKED) / clones.length
      expect(asked).toBeGreaterThan(0)
      expect(asked).toBeLessThan(size / 2)

      const [first, second] = clones as [LinuxVm, LinuxVm]
      await first.vm.pause()
      const again = join(folder, 'again')
      await writeSnapshot(again, { state: stateToJson(await first.vm.state()), memory: first.vm.memory })
      await stop(first)
      await stop(second)
      await server.close()
      const snapshot = Snapshot.open(again)
      const last = await LinuxVm.restore(stateFromJson(snapshot.state), snapshot.mapMemory(), { devices })
      snapshot.close()
      last.type('ls /bin >/names && echo "$x again $((6 * 7))"')
      await last.until(/^saved again 42\n/m)
      await stop(last)
    })

    test('ends when the pages cannot be had, and another of another server does not', async () => {
      const [bad, good] = [new SharedArrayBuffer(8), new SharedArrayBuffer(8)]
      const servers = await Promise.all([start(bad), start(good)])
      const [failing, other] = await Promise.all(servers.map((server) => restore(server)))
      Atomics.store(new Int32Array(bad), FAILS, 1)
      failing?.type('ls -lR / | wc -l')
      expect(await failing?.ended).toMatchObject({
        kind: 'failed',
        reason: expect.stringMatching(/^the page provider has failed .* the store has gone$/),
        cause: expect.objectContaining({ code: 'ERR_MEMORY_PAGE_PROVIDER' }),
      })
      other?.type('echo "$x and $((6 * 7))"')
      await other?.until(/^saved and 42\n/m)
      if (other !== undefined) await stop(other)
      await Promise.all(servers.map((server) => server.close()))
    })
  })
})
