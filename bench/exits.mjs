/**
 * What an exit to user space costs: synchronous and asynchronous KVM_RUN, over a loop in C on the same guest
 * (exits.c), in turn. The guest writes to an I/O port for ever, in long mode at CPL 3.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Kvm } from '../packages/kvm-ioctls/dist/index.js'
import { MappedMemory } from '../packages/vm-memory/dist/mmap.js'
import { median, printIfMain, row } from './support/report.mjs'

const ROUNDS = 7
const EXITS = 5000
const WARM_UP = 1000
const NS_PER_MS = 1e6

const MEMORY_SIZE = 2 ** 21
const PML4 = 0x1000
const CODE = 0x10000
/** 1: out %al, $0x80; jmp 1b */
const OUT_LOOP = Uint8Array.of(0xe6, 0x80, 0xeb, 0xfc)
/** Present, writable, for user mode. */
const TABLE = 7n
const LARGE_PAGE = 0x80n | TABLE
const CODE_SEGMENT = { type: 11, selector: 0x33, l: 1, db: 0 }
const DATA_SEGMENT = { type: 3, selector: 0x2b, l: 0, db: 1 }
const USER_SEGMENT = { base: 0n, limit: 0xffff_ffff, present: 1, dpl: 3, s: 1, g: 1, avl: 0, unusable: 0 }
/** IOPL 3: CPL 3 may use I/O ports. */
const RFLAGS = 0x3002n

function createGuest() {
  const kvm = Kvm.open()
  const ram = MappedMemory.anonymous([{ start: 0, size: MEMORY_SIZE }])
  const vm = kvm.createVm()
  const [region] = ram.memory.regions
  vm.setUserMemoryRegion({ slot: 0, guestAddress: 0, size: MEMORY_SIZE, hostAddress: region.hostAddress })
  ram.memory.writeUint64(PML4, BigInt(PML4 + 0x1000) | TABLE)
  ram.memory.writeUint64(PML4 + 0x1000, BigInt(PML4 + 0x2000) | TABLE)
  ram.memory.writeUint64(PML4 + 0x2000, LARGE_PAGE)
  ram.memory.writeSlice(CODE, OUT_LOOP)
  const vcpu = vm.createVcpu(0)
  const data = { ...USER_SEGMENT, ...DATA_SEGMENT }
  vcpu.setSregs({
    ...vcpu.getSregs(),
    ...{ cs: { ...USER_SEGMENT, ...CODE_SEGMENT }, ds: data, es: data, fs: data, gs: data, ss: data },
    ...{ cr0: 0x8000_0033n, cr3: BigInt(PML4), cr4: 0x20n, efer: 0x501n },
  })
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rflags: RFLAGS })
  const close = () => {
    vm.close()
    ram.close()
    kvm.close()
  }
  return { vcpu, close }
}

function expectOut(exit) {
  if (exit.reason !== 'io-out') throw new Error(`the guest left with ${exit.reason}`)
}

function syncExit(vcpu) {
  for (let i = 0; i < WARM_UP; i++) expectOut(vcpu.runSync())
  const start = performance.now()
  for (let i = 0; i < EXITS; i++) expectOut(vcpu.runSync())
  return ((performance.now() - start) / EXITS) * NS_PER_MS
}

async function asyncExit(vcpu) {
  for (let i = 0; i < WARM_UP; i++) expectOut(await vcpu.run())
  const start = performance.now()
  for (let i = 0; i < EXITS; i++) expectOut(await vcpu.run())
  return ((performance.now() - start) / EXITS) * NS_PER_MS
}

/** The rows of the table. */
export async function run() {
  const folder = mkdtempSync(join(tmpdir(), 'vmm-bench-'))
  const binary = join(folder, 'exits')
  execFileSync('gcc', ['-O2', '-o', binary, fileURLToPath(new URL('exits.c', import.meta.url))])
  const { vcpu, close } = createGuest()
  const floors = []
  const syncs = []
  const asyncs = []
  try {
    for (let round = 0; round < ROUNDS; round++) {
      floors.push(Number(execFileSync(binary, [String(EXITS)])))
      syncs.push(syncExit(vcpu))
      asyncs.push(await asyncExit(vcpu))
    }
  } finally {
    close()
    rmSync(folder, { recursive: true })
  }
  const floor = median(floors)
  const against = (name, value) =>
    row({ name, figure: value / 1000, unit: 'us', peer: 'a loop in C', peerFigure: floor / 1000 })
  return [against('exit, runSync()', median(syncs)), against('exit, await run()', median(asyncs))]
}

await printIfMain(import.meta, run)
