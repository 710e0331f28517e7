/**
 * Going on with a saved VM: from the opening of the snapshot to the guest's first instruction, for guests of several sizes,
 * beside KVM_CREATE_VM alone, and beside memory for that. Guest memory is mapped and not read, however much there is.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildBareGuest } from '../guest/bare/build.mjs'
import { Kvm } from '../packages/kvm-ioctls/dist/index.js'
import { MicroVm, stateFromJson, stateToJson } from '../packages/microvm/dist/index.js'
import { Snapshot, writeSnapshot } from '../packages/snapshot/dist/index.js'
import { MappedMemory } from '../packages/vm-memory/dist/mmap.js'
import { median, printIfMain, row } from './support/report.mjs'

const MIB = 2 ** 20
const SIZES_MIB = [64, 512, 4096]
const ROUNDS = 21
const PROGRAM = fileURLToPath(new URL('../guest/bare/programs/restored.c', import.meta.url))

/** Saves a VM where its guest has booted. */
async function save(folder, memory) {
  let saved
  const vm = await MicroVm.create({
    kernel: await buildBareGuest(PROGRAM),
    entry: 'pvh',
    memory,
    events: {
      // At once: the guest gets no further.
      bootMarker: () => {
        saved = vm.pause().then(async () => {
          await writeSnapshot(folder, { state: stateToJson(await vm.state()), memory: vm.memory })
          vm.stop('saved')
        })
      },
    },
  })
  await vm.run()
  await saved
  vm.close()
}

/** Milliseconds until the guest has come out with its first instruction. */
async function restore(folder) {
  const start = performance.now()
  let first
  const snapshot = Snapshot.open(folder)
  const vm = await MicroVm.restore(stateFromJson(snapshot.state), snapshot.mapMemory(), {
    events: {
      exit: () => {
        if (first !== undefined) return
        first = performance.now()
        vm.stop('seen')
      },
    },
  })
  snapshot.close()
  await vm.run()
  vm.close()
  return first - start
}

/** Milliseconds of KVM_CREATE_VM, and of memory for it: a KVM without hardware makes tables as large as the memory at once. */
function createVm(memory) {
  const kvm = Kvm.open()
  const ram = memory === 0 ? undefined : MappedMemory.anonymous([{ start: 2 ** 32, size: memory }])
  const start = performance.now()
  const vm = kvm.createVm()
  for (const [slot, { start: guestAddress, size, hostAddress }] of ram?.memory.regions.entries() ?? []) {
    vm.setUserMemoryRegion({ slot, guestAddress, size, hostAddress })
  }
  const took = performance.now() - start
  vm.close()
  kvm.close()
  ram?.close()
  return took
}

export async function run() {
  const base = mkdtempSync(join(tmpdir(), 'vmm-bench-restore-'))
  try {
    const folders = SIZES_MIB.map((size) => join(base, String(size)))
    for (const [index, folder] of folders.entries()) await save(folder, SIZES_MIB[index] * MIB)
    const took = folders.map(() => [])
    const withMemory = folders.map(() => [])
    const floor = []
    for (let round = 0; round < ROUNDS; round++) {
      for (const [index, folder] of folders.entries()) {
        took[index].push(await restore(folder))
        withMemory[index].push(createVm(SIZES_MIB[index] * MIB))
      }
      floor.push(createVm(0))
    }
    const compare = (name, figures) =>
      SIZES_MIB.map((size, index) =>
        row({
          name: `${name}, ${size} MiB`,
          figure: median(figures[index]),
          unit: 'ms',
          peer: 'KVM_CREATE_VM alone',
          peerFigure: median(floor),
        }),
      )
    return [
      ...compare("restore to the guest's first instruction", took),
      ...compare('KVM_CREATE_VM and KVM_SET_USER_MEMORY_REGION', withMemory),
    ]
  } finally {
    rmSync(base, { recursive: true })
  }
}

await printIfMain(import.meta, run)
