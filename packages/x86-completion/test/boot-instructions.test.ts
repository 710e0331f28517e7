import { beforeEach, describe, expect, test } from 'vitest'
import {
  InstructionCompleter,
  VECTOR_BP,
  VECTOR_DB,
  VECTOR_GP,
  VECTOR_MF,
  VECTOR_NM,
  VECTOR_PF,
  VECTOR_UD,
} from '../src/index.ts'
import {
  FakeCpu,
  FEATURES,
  longMode,
  PAGE_SIZE,
  PTE_ACCESSED,
  PTE_ALL,
  PTE_DIRTY,
  PTE_PRESENT,
  PTE_USER,
  PTE_WRITABLE,
} from './fake-cpu.ts'

const CODE = 0xffffffff81000000n
const DATA = 0xffff888000000000n
const DATA_PHYSICAL = 0x5000
const SUPERVISOR = PTE_ALL & ~PTE_USER

const FLAG_CF = 1n
const FLAG_ZF = 1n << 6n
const FLAG_TF = 1n << 8n
const FLAG_OF = 1n << 11n
const FLAG_RF = 1n << 16n
const FLAG_AC = 1n << 18n
const CR0_TS = 1n << 3n
const PF_WRITE = 2
const PF_PRESENT = 1

const HLT = [0xf4]
const INT3 = [0xcc]
const CLAC = [0x0f, 0x01, 0xca]
const STAC = [0x0f, 0x01, 0xcb]
const FWAIT = [0x9b]
const POPCNT_RAX_RDI = [0xf3, 0x48, 0x0f, 0xb8, 0xc7]
const POPCNT_EAX_EDI = [0xf3, 0x0f, 0xb8, 0xc7]
const LOCK_CMPXCHG16B_RSI = [0xf0, 0x48, 0x0f, 0xc7, 0x0e]
const AVX_END = 576 + 256
const XRSTOR64_RDI = [0x48, 0x0f, 0xae, 0x2f]

let cpu: FakeCpu
let completer: InstructionCompleter

beforeEach(() => {
  cpu = new FakeCpu(longMode(0))
  cpu.general.rip = CODE
  cpu.map(DATA, DATA_PHYSICAL, SUPERVISOR)
  completer = new InstructionCompleter(cpu, FEATURES)
})

function complete(bytes: number[]) {
  return completer.complete(Uint8Array.from(bytes))
}

describe('int3', () => {
  test('is a breakpoint trap with RIP behind it', () => {
    expect(complete(INT3)).toMatchObject({ kind: 'exception', vector: VECTOR_BP, errorCode: undefined })
    expect(cpu.general.rip).toBe(CODE + 1n)
  })
})

describe('popcnt', () => {
  test('counts 64 bits and clears the status flags', () => {
    cpu.general.rdi = 0xf0f0_0000_0000_0003n
    cpu.general.rflags |= FLAG_CF | FLAG_ZF | FLAG_OF
    expect(complete(POPCNT_RAX_RDI)).toEqual({ kind: 'completed', mnemonic: 'popcnt' })
    expect(cpu.general).toMatchObject({ rax: 10n, rflags: 2n, rip: CODE + 5n })
  })

  test('of 32 bits clears the upper half and sets ZF for zero', () => {
    cpu.general.rdi = 0xffff_ffff_0000_0000n
    cpu.general.rax = 0xffff_ffff_ffff_ffffn
    complete(POPCNT_EAX_EDI)
    expect(cpu.general).toMatchObject({ rax: 0n, rflags: 2n | FLAG_ZF })
  })
})

describe('clac and stac', () => {
  test('clear and set RFLAGS.AC', () => {
    complete(STAC)
    expect(cpu.general.rflags & FLAG_AC).toBe(FLAG_AC)
    complete(CLAC)
    expect(cpu.general.rflags & FLAG_AC).toBe(0n)
    expect(cpu.general.rip).toBe(CODE + 6n)
  })

  test('are invalid opcodes outside of CPL 0', () => {
    cpu.special = { ...longMode(3), cr3: cpu.special.cr3 }
    expect(complete(STAC)).toMatchObject({ kind: 'exception', vector: VECTOR_UD })
    expect(cpu.general.rip).toBe(CODE)
  })
})

describe('fwait', () => {
  test('does nothing without a pending exception', () => {
    expect(complete(FWAIT).kind).toBe('completed')
  })

  test('raises #MF for an unmasked exception', () => {
    cpu.xsave.set([0x7e, 0x03, 0x01, 0x00]) // FCW with IM clear, FSW with IE set
    cpu.xsave[512] = 1
    expect(complete(FWAIT)).toMatchObject({ kind: 'exception', vector: VECTOR_MF })
  })

  test('raises #NM when MP and TS are set', () => {
    cpu.special.cr0 |= CR0_TS
    expect(complete(FWAIT)).toMatchObject({ kind: 'exception', vector: VECTOR_NM })
  })
})

describe('cmpxchg16b', () => {
  beforeEach(() => {
    Object.assign(cpu.general, { rsi: DATA + 32n, rax: 1n, rdx: 2n, rbx: 3n, rcx: 4n })
  })

  test('stores RCX:RBX where RDX:RAX was', () => {
    cpu.memory.set64(DATA_PHYSICAL + 32, 1n)
    cpu.memory.set64(DATA_PHYSICAL + 40, 2n)
    expect(complete(LOCK_CMPXCHG16B_RSI).kind).toBe('completed')
    expect(cpu.memory.get64(DATA_PHYSICAL + 32)).toBe(3n)
    expect(cpu.memory.get64(DATA_PHYSICAL + 40)).toBe(4n)
    expect(cpu.general.rflags & FLAG_ZF).toBe(FLAG_ZF)
  })

  test('loads RDX:RAX where something else was', () => {
    cpu.memory.set64(DATA_PHYSICAL + 32, 1n)
    cpu.memory.set64(DATA_PHYSICAL + 40, 7n)
    complete(LOCK_CMPXCHG16B_RSI)
    expect(cpu.memory.get64(DATA_PHYSICAL + 40)).toBe(7n)
    expect(cpu.general).toMatchObject({ rax: 1n, rdx: 7n, rflags: 2n })
  })

  test('loses to another vCPU that writes in between', () => {
    const { memory } = cpu
    memory.set64(DATA_PHYSICAL + 32, 1n)
    memory.set64(DATA_PHYSICAL + 40, 2n)
    const compareExchange = memory.compareExchange.bind(memory)
    memory.compareExchange = (address, expected, replacement) => {
      memory.set64(DATA_PHYSICAL + 32, 9n)
      return compareExchange(address, expected, replacement)
    }
    expect(complete(LOCK_CMPXCHG16B_RSI).kind).toBe('completed')
    expect(memory.get64(DATA_PHYSICAL + 32)).toBe(9n)
    expect(cpu.general).toMatchObject({ rax: 9n, rdx: 2n, rflags: 2n })
  })

  test('raises #GP when misaligned', () => {
    cpu.general.rsi = DATA + 8n
    expect(complete(LOCK_CMPXCHG16B_RSI)).toMatchObject({ vector: VECTOR_GP, errorCode: 0 })
  })

  test('raises #PF with CR2 on a page that may not be written, whatever it compares to', () => {
    cpu.map(DATA, DATA_PHYSICAL, SUPERVISOR & ~PTE_WRITABLE)
    const fault = { kind: 'exception', vector: VECTOR_PF, errorCode: PF_PRESENT | PF_WRITE, cr2: DATA + 32n }
    expect(complete(LOCK_CMPXCHG16B_RSI)).toMatchObject(fault)
    expect(cpu.general.rip).toBe(CODE)
  })

  test('sets the accessed and dirty bits', () => {
    cpu.map(DATA, DATA_PHYSICAL, PTE_PRESENT | PTE_WRITABLE)
    complete(LOCK_CMPXCHG16B_RSI)
    expect(cpu.memory.get64(cpu.entryAddress(DATA)) & (PTE_ACCESSED | PTE_DIRTY)).toBe(
      PTE_ACCESSED | PTE_DIRTY,
    )
  })
})

describe('xrstor', () => {
  beforeEach(() => {
    Object.assign(cpu.general, { rdi: DATA, rax: 0xffffffffn, rdx: 0xffffffffn })
    const area = cpu.memory.page(DATA_PHYSICAL)
    const view = new DataView(area.buffer)
    view.setUint16(0, 0x27f, true)
    view.setUint32(24, 0x1fa0, true)
    area.fill(0x5a, 160, 176)
    area.fill(0xa5, 576, 592)
    view.setBigUint64(512, 7n, true)
  })

  test('loads x87, SSE and AVX state', () => {
    expect(complete(XRSTOR64_RDI)).toEqual({ kind: 'completed', mnemonic: 'xrstor' })
    const view = new DataView(cpu.xsave.buffer)
    expect(view.getUint16(0, true)).toBe(0x27f)
    expect(view.getUint32(24, true)).toBe(0x1fa0)
    expect(view.getUint32(160, true)).toBe(0x5a5a5a5a)
    expect(view.getUint32(576, true)).toBe(0xa5a5a5a5)
    expect(view.getBigUint64(512, true)).toBe(7n)
  })

  test('initialises what XSTATE_BV lacks, and leaves what is not asked for', () => {
    complete(XRSTOR64_RDI)
    cpu.memory.set64(DATA_PHYSICAL + 512, 0n)
    cpu.general.rax = 0b101n
    complete(XRSTOR64_RDI)
    const view = new DataView(cpu.xsave.buffer)
    expect(view.getUint16(0, true)).toBe(0x37f)
    expect(view.getUint32(160, true)).toBe(0x5a5a5a5a)
    expect(view.getUint32(576, true)).toBe(0)
    expect(view.getBigUint64(512, true)).toBe(0b010n)
  })

  test('raises #GP for a component that XCR0 does not enable', () => {
    cpu.memory.set64(DATA_PHYSICAL + 512, 8n)
    expect(complete(XRSTOR64_RDI)).toMatchObject({ vector: VECTOR_GP, errorCode: 0 })
  })

  test('leaves all as it was when the second page of the area faults', () => {
    const split = DATA + BigInt(PAGE_SIZE) - 576n
    cpu.general.rdi = split
    cpu.memory.set64(DATA_PHYSICAL + PAGE_SIZE - 64, 7n)
    cpu.memory.page(DATA_PHYSICAL).fill(0, PAGE_SIZE - 576, PAGE_SIZE - 64)
    // AVX is last: its last byte is looked at before the rest.
    const fault = { vector: VECTOR_PF, errorCode: 0, cr2: split + BigInt(AVX_END - 1) }
    expect(complete(XRSTOR64_RDI)).toMatchObject(fault)
    expect(cpu.calls.has('setXsave')).toBe(false)
  })
})

describe('every completion', () => {
  test('clears RF and ends in #DB with DR6.BS when single-stepping', () => {
    cpu.general.rflags |= FLAG_TF | FLAG_RF
    expect(complete(STAC)).toMatchObject({ kind: 'exception', vector: VECTOR_DB, dr6: 0x4000n })
    expect(cpu.general).toMatchObject({ rip: CODE + 3n, rflags: 2n | FLAG_TF | FLAG_AC })
  })

  test('fetches bytes from guest memory when the exit has too few', () => {
    cpu.map(CODE, 0x9000, SUPERVISOR)
    cpu.memory.page(0x9000).set(POPCNT_RAX_RDI)
    cpu.general.rdi = 3n
    expect(complete([0xf3]).kind).toBe('completed')
    expect(cpu.general).toMatchObject({ rax: 2n, rip: CODE + 5n })
  })

  test('asks the context for no more than the instruction needs', () => {
    complete(POPCNT_RAX_RDI)
    expect(Object.fromEntries(cpu.calls)).toEqual({
      getRegisters: 1,
      getSpecialRegisters: 1,
      setRegisters: 1,
    })
  })

  test('says what it saw of an instruction it does not know', () => {
    expect(complete(HLT)).toEqual({
      kind: 'unknown',
      reason: 'instruction',
      bytes: Uint8Array.from(HLT),
      rip: CODE,
      mode: 'long mode CPL 0',
    })
  })
})
