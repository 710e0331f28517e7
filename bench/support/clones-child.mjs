/**
 * Many VMs of one snapshot in this process, for bench/clones.mjs: `clones-child.mjs SNAPSHOT COUNT`. Prints what it measured as
 * JSON.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Kvm } from '../../packages/kvm-ioctls/dist/index.js'
import { MicroVm, stateFromJson } from '../../packages/microvm/dist/index.js'
import { Snapshot } from '../../packages/snapshot/dist/index.js'
import { trimHeap } from '../../packages/sys-util/dist/index.js'
import { privateRuns } from '../../packages/vm-memory/dist/mmap.js'

const SETTLE_MS = 3000
const WARM_UP = 20
const [folder, countText] = process.argv.slice(2)
const count = Number(countText)

/** KiB of this process, what it shares with others by its part; without what V8 and libc keep for later. */
function pssKib() {
  globalThis.gc()
  trimHeap()
  return Number(/^Pss:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/smaps_rollup', 'latin1'))[1])
}

const snapshot = Snapshot.open(folder)
// The form that example-vmm saves.
const state = stateFromJson(snapshot.state.vm)
const start = async () => {
  const vm = await MicroVm.restore(state, snapshot.mapMemory())
  return { vm, ended: vm.run() }
}
const stop = async ({ vm, ended }) => {
  vm.stop('seen')
  await ended
  vm.close()
}

// What the first ones have V8 load and compile stays.
const first = []
for (let i = 0; i < WARM_UP; i++) first.push(await start())
await sleep(SETTLE_MS)
await Promise.all(first.map(stop))
const processKib = pssKib()

const kvm = Kvm.open()
const floorStart = performance.now()
for (let i = 0; i < count; i++) kvm.createVm().close()
const floorPerSecond = (count * 1000) / (performance.now() - floorStart)
kvm.close()

const vms = []
const began = performance.now()
for (let i = 0; i < count; i++) vms.push(await start())
const perSecond = (count * 1000) / (performance.now() - began)
await sleep(SETTLE_MS)
for (const { vm } of vms) await vm.pause()
const runs = vms.flatMap(({ vm }) => vm.memory.regions.flatMap((region) => privateRuns(region)))
const writtenKib = runs.reduce((sum, { size }) => sum + size, 0) / 1024
const overheadKib = (pssKib() - processKib - writtenKib) / count
await Promise.all(vms.map(stop))
snapshot.close()
process.stdout.write(
  `${JSON.stringify({ perSecond, floorPerSecond, processKib, overheadKib, writtenKib })}\n`,
)
