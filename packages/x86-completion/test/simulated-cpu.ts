/** The same case by completion: a fake vCPU with the runner's pages at the runner's addresses, at CPL 3. */

import { type Completion, InstructionCompleter } from '../src/index.ts'
import {
  FakeCpu,
  generalRegisters,
  longMode,
  PTE_ACCESSED,
  PTE_ALL,
  PTE_DIRTY,
  PTE_PRESENT,
  PTE_USER,
  PTE_WRITABLE,
  segment,
} from './fake-cpu.ts'
import {
  CODE_BASE,
  type CodeCase,
  DATA_BASE,
  GS_BASE,
  type NativeCpu,
  type Outcome,
  PAGE_SIZE,
  PROT_NONE,
  PROT_WRITE,
} from './native-cpu.ts'

/** KVM's names in the order of register numbers. */
const NAMES = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'] as const
const HIGH_NAMES = ['r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const
export const REGISTER_NAMES: readonly ((typeof NAMES)[number] | (typeof HIGH_NAMES)[number])[] = [
  ...NAMES,
  ...HIGH_NAMES,
]

const INT3 = 0xcc
const CODE_PHYSICAL = 0x10000
const DATA_PHYSICAL = 0x20000
const USER_CS_32 = 0x23

function entryOf(protection: number): bigint {
  if (protection === PROT_NONE) return 0n
  const entry = PTE_PRESENT | PTE_USER | PTE_ACCESSED | PTE_DIRTY
  return (protection & PROT_WRITE) !== 0 ? entry | PTE_WRITABLE : entry
}

export class SimulatedCpu {
  readonly #cpu = new FakeCpu(longMode(3))
  readonly #completer: InstructionCompleter
  readonly #mxcsrMask: number

  constructor(native: NativeCpu) {
    this.#completer = new InstructionCompleter(this.#cpu, native.features)
    this.#mxcsrMask = native.mxcsrMask
    this.#cpu.xcr0 = native.xcr0
    this.#cpu.map(BigInt(CODE_BASE), CODE_PHYSICAL, PTE_ALL)
  }

  /** Runs one case. If the completion's kind is `unknown`, of the instruction or what follows, the outcome is void. */
  run(code: CodeCase): { completion: Completion; outcome: Outcome } {
    const cpu = this.#cpu
    this.#prepare(code)
    // Half of the bytes, as if KVM had given those alone: the rest is fetched.
    const given = code.codeOffset === 0 ? code.code.subarray(0, 15) : code.code.subarray(0, 1)
    const completion = this.#completer.complete(given)
    // What ends a completed instruction natively is the INT3 behind it, or the fault of fetching that.
    const end = completion.kind === 'completed' ? this.#completer.complete() : completion
    const exception = end.kind === 'exception' ? end : undefined
    const outcome: Outcome = {
      registers: REGISTER_NAMES.map((name) => cpu.general[name]),
      rip: cpu.general.rip,
      flags: Number(cpu.general.rflags),
      vector: exception?.vector ?? 0,
      errorCode: exception?.errorCode ?? 0,
      cr2: exception?.cr2 ?? 0n,
      area: cpu.xsave,
      data: this.#data(),
    }
    return { completion: end.kind === 'unknown' ? end : completion, outcome }
  }

  #prepare(code: CodeCase): void {
    const cpu = this.#cpu
    cpu.general = generalRegisters()
    for (const [i, name] of REGISTER_NAMES.entries()) cpu.general[name] = code.registers[i] ?? 0n
    cpu.general.rip = BigInt(CODE_BASE + code.codeOffset)
    cpu.general.rflags = BigInt(code.flags | 0x202)
    cpu.special.cs = segment(
      code.is32Bit
        ? { type: 11, dpl: 3, db: 1, l: 0, selector: USER_CS_32 }
        : { type: 11, dpl: 3, db: 0, l: 1 },
    )
    cpu.special.fs = segment({ unusable: 1 })
    cpu.special.gs = segment({ unusable: 1, base: BigInt(GS_BASE) })
    cpu.xsave = code.area.slice()
    new DataView(cpu.xsave.buffer).setUint32(28, this.#mxcsrMask, true)
    const [code1, data0, data1] = code.protection
    cpu.map(BigInt(CODE_BASE + PAGE_SIZE), CODE_PHYSICAL + PAGE_SIZE, entryOf(code1))
    cpu.map(BigInt(DATA_BASE), DATA_PHYSICAL, entryOf(data0))
    cpu.map(BigInt(DATA_BASE + PAGE_SIZE), DATA_PHYSICAL + PAGE_SIZE, entryOf(data1))
    const pages = new Uint8Array(2 * PAGE_SIZE).fill(INT3)
    pages.set(code.code, code.codeOffset)
    cpu.memory.page(CODE_PHYSICAL).set(pages.subarray(0, PAGE_SIZE))
    cpu.memory.page(CODE_PHYSICAL + PAGE_SIZE).set(pages.subarray(PAGE_SIZE))
    cpu.memory.page(DATA_PHYSICAL).set(code.data.subarray(0, PAGE_SIZE))
    cpu.memory.page(DATA_PHYSICAL + PAGE_SIZE).set(code.data.subarray(PAGE_SIZE))
  }

  #data(): Uint8Array {
    const data = new Uint8Array(2 * PAGE_SIZE)
    data.set(this.#cpu.memory.page(DATA_PHYSICAL))
    data.set(this.#cpu.memory.page(DATA_PHYSICAL + PAGE_SIZE), PAGE_SIZE)
    return data
  }
}
