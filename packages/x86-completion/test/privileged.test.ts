/** Instructions that user programs can't execute, or not with known results: from the manuals' pseudo-code. */

import { beforeEach, describe, expect, test } from 'vitest'
import { InstructionCompleter, VECTOR_GP, VECTOR_NM, VECTOR_PF, VECTOR_UD } from '../src/index.ts'
import { FakeCpu, FEATURES, longMode, PTE_ALL, PTE_USER } from './fake-cpu.ts'

const CODE = 0xffffffff81000000n
const DATA = 0xffff888000000000n
const DATA_PHYSICAL = 0x5000

const FLAG_CF = 1n
const FLAG_ZF = 1n << 6n
const CR0_TS = 1n << 3n
const CR0_EM = 1n << 2n
const CR4_TSD = 1n << 2n
const CR4_FSGSBASE = 1n << 16n
const CR4_OSXSAVE = 1n << 18n
const EFER_FFXSR = 1n << 14n

const MSR_TSC = 0x10
const MSR_IA32_XSS = 0xda0
const MSR_U_CET = 0x6a0
const MSR_PL3_SSP = 0x6a7
const MSR_TSC_AUX = 0xc0000103
const MSR_KERNEL_GS_BASE = 0xc0000102

const X87 = 1n << 0n
const SSE = 1n << 1n
const AVX = 1n << 2n
const CET_U = 1n << 11n
const COMPACTED = 1n << 63n
const XSTATE_BV = 512
const XCOMP_BV = 520
const EXTENDED = 576
const AVX_SIZE = 256

const XSAVES64_RDI = [0x48, 0x0f, 0xc7, 0x2f]
const XRSTORS64_RDI = [0x48, 0x0f, 0xc7, 0x1f]
const XSETBV = [0x0f, 0x01, 0xd1]
const FXSAVE64_RDI = [0x48, 0x0f, 0xae, 0x07]
const SWAPGS = [0x0f, 0x01, 0xf8]
const WRFSBASE_RAX = [0xf3, 0x48, 0x0f, 0xae, 0xd0]
const WRGSBASE_EAX = [0xf3, 0x0f, 0xae, 0xd8]
const RDFSBASE_RCX = [0xf3, 0x48, 0x0f, 0xae, 0xc1]
const RDTSCP = [0x0f, 0x01, 0xf9]
const RDPID_RDX = [0xf3, 0x0f, 0xc7, 0xfa]
const RDRAND_RAX = [0x48, 0x0f, 0xc7, 0xf0]
const RDSEED_CX = [0x66, 0x0f, 0xc7, 0xf9]
const VERR_AX = [0x0f, 0x00, 0xe0]
const VERW_AX = [0x0f, 0x00, 0xe8]
const VERW_RSI = [0x0f, 0x00, 0x2e]
const LAR_ECX_EAX = [0x0f, 0x02, 0xc8]
const LSL_RCX_EAX = [0x48, 0x0f, 0x03, 0xc8]
const LDMXCSR_RDI = [0x0f, 0xae, 0x17]
const FNINIT = [0xdb, 0xe3]
const EMMS = [0x0f, 0x77]
const SERIALIZE = [0x0f, 0x01, 0xe8]

let cpu: FakeCpu
let completer: InstructionCompleter

beforeEach(() => start(0))

function start(cpl: number): void {
  cpu = new FakeCpu(longMode(cpl))
  cpu.general.rip = CODE
  cpu.general.rdi = DATA
  cpu.map(DATA, DATA_PHYSICAL, cpl === 3 ? PTE_ALL : PTE_ALL & ~PTE_USER)
  completer = new InstructionCompleter(cpu, FEATURES)
}

function complete(bytes: number[]) {
  return completer.complete(Uint8Array.from(bytes))
}

const gp = expect.objectContaining({ kind: 'exception', vector: VECTOR_GP, errorCode: 0 })
const ud = expect.objectContaining({ kind: 'exception', vector: VECTOR_UD, errorCode: undefined })
const done = expect.objectContaining({ kind: 'completed' })

describe('xsaves and xrstors', () => {
  beforeEach(() => {
    Object.assign(cpu.general, { rax: 0xffffffffn, rdx: 0n })
    cpu.msrs.set(MSR_IA32_XSS, CET_U)
    cpu.msrs.set(MSR_U_CET, 0x11n)
    cpu.msrs.set(MSR_PL3_SSP, 0x7fff0000n)
  })

  test('save what is in use, compacted, supervisor state from its registers', () => {
    cpu.memory.page(DATA_PHYSICAL).fill(0xee)
    cpu.xsave.fill(0xaa, 576, 576 + AVX_SIZE)
    cpu.xsave[XSTATE_BV] = Number(AVX)
    expect(complete(XSAVES64_RDI)).toEqual(done)
    const { memory } = cpu
    expect(memory.get64(DATA_PHYSICAL + XSTATE_BV)).toBe(AVX | CET_U)
    expect(memory.get64(DATA_PHYSICAL + XCOMP_BV)).toBe(COMPACTED | X87 | SSE | AVX | CET_U)
    expect(memory.get64(DATA_PHYSICAL + EXTENDED)).toBe(0xaaaa_aaaa_aaaa_aaaan)
    expect(memory.get64(DATA_PHYSICAL + EXTENDED + AVX_SIZE)).toBe(0x11n)
    expect(memory.get64(DATA_PHYSICAL + EXTENDED + AVX_SIZE + 8)).toBe(0x7fff0000n)
    expect(memory.page(DATA_PHYSICAL)[0]).toBe(0xee) // x87 is in its initial state
    expect(memory.get64(DATA_PHYSICAL + XCOMP_BV + 8)).toBe(0xeeee_eeee_eeee_eeeen)
  })

  test('restore what was saved, and initialise the rest', () => {
    complete(XSAVES64_RDI)
    cpu.msrs.set(MSR_U_CET, 0n)
    cpu.msrs.set(MSR_PL3_SSP, 0n)
    cpu.xsave.fill(0xaa, 576, 576 + AVX_SIZE)
    cpu.xsave[XSTATE_BV] = Number(AVX)
    expect(complete(XRSTORS64_RDI)).toEqual(done)
    expect(cpu.msrs.get(MSR_U_CET)).toBe(0x11n)
    expect(cpu.msrs.get(MSR_PL3_SSP)).toBe(0x7fff0000n)
    expect(cpu.xsave[576]).toBe(0)
    cpu.memory.set64(DATA_PHYSICAL + XSTATE_BV, 0n)
    complete(XRSTORS64_RDI)
    expect(cpu.msrs.get(MSR_U_CET)).toBe(0n)
  })

  test('xrstors takes compacted areas alone', () => {
    cpu.memory.page(DATA_PHYSICAL).fill(0)
    expect(complete(XRSTORS64_RDI)).toEqual(gp)
  })

  test('aligned components start at a multiple of 64 bytes', () => {
    const unaligned = { index: 2, size: 72, offset: 576, supervisor: false, aligned: false }
    const aligned = { index: 5, size: 64, offset: 832, supervisor: false, aligned: true }
    completer = new InstructionCompleter(cpu, { ...FEATURES, xsaveComponents: [unaligned, aligned] })
    cpu.xcr0 = 0x27n
    cpu.msrs.set(MSR_IA32_XSS, 0n)
    cpu.xsave.fill(0xaa, 832, 832 + 64)
    cpu.xsave[XSTATE_BV] = 1 << 5
    complete(XSAVES64_RDI)
    expect(cpu.memory.get64(DATA_PHYSICAL + EXTENDED + 72)).toBe(0n)
    expect(cpu.memory.get64(DATA_PHYSICAL + EXTENDED + 128)).toBe(0xaaaa_aaaa_aaaa_aaaan)
  })

  test.each([
    ['XCOMP_BV has a component that is not enabled', COMPACTED | X87 | (1n << 9n), 0n, true],
    ['XSTATE_BV has one that XCOMP_BV lacks', COMPACTED | X87, SSE, true],
    ['XSTATE_BV lacks one that XCOMP_BV has', COMPACTED | X87 | SSE, X87, false],
  ])('xrstors checks the header: %s', (_name, xcompBv, xstateBv, isFault) => {
    cpu.memory.page(DATA_PHYSICAL).fill(0)
    cpu.memory.set64(DATA_PHYSICAL + XCOMP_BV, xcompBv)
    cpu.memory.set64(DATA_PHYSICAL + XSTATE_BV, xstateBv)
    expect(complete(XRSTORS64_RDI)).toEqual(isFault ? gp : done)
  })

  test('components of unknown size are given up', () => {
    cpu.msrs.set(MSR_IA32_XSS, 1n << 15n)
    expect(complete(XSAVES64_RDI)).toMatchObject({ kind: 'unknown', reason: 'xsave-component' })
  })

  test('components that the context has no room for are given up', () => {
    const { xsave } = cpu
    cpu.getXsave = () => xsave.slice(0, EXTENDED + AVX_SIZE - 1)
    expect(complete(XSAVES64_RDI)).toMatchObject({ kind: 'unknown', reason: 'xsave-component' })
  })

  test('raise #NM with CR0.TS, #UD without CR4.OSXSAVE, #GP outside of CPL 0', () => {
    cpu.special.cr0 |= CR0_TS
    expect(complete(XSAVES64_RDI)).toMatchObject({ vector: VECTOR_NM })
    cpu.special.cr4 &= ~CR4_OSXSAVE
    expect(complete(XSAVES64_RDI)).toEqual(ud)
    start(3)
    expect(complete(XSAVES64_RDI)).toEqual(gp)
  })
})

describe('xsetbv', () => {
  test.each([
    ['x87 and SSE', X87 | SSE, true],
    ['AVX with SSE', X87 | SSE | AVX, true],
    ['AVX without SSE', X87 | AVX, false],
    ['no x87', SSE, false],
    ['a component that the CPU lacks', X87 | SSE | (1n << 5n), false],
  ])('%s', (_name, value, isAllowed) => {
    cpu.general.rax = value
    expect(complete(XSETBV)).toEqual(isAllowed ? done : gp)
    expect(cpu.xcr0).toBe(isAllowed ? value : 7n)
  })

  test('knows of XCR0 only', () => {
    Object.assign(cpu.general, { rax: 3n, rcx: 1n })
    expect(complete(XSETBV)).toEqual(gp)
  })
})

describe('fxsave', () => {
  test('leaves XMM out at CPL 0 with EFER.FFXSR', () => {
    cpu.xsave[XSTATE_BV] = Number(SSE)
    cpu.xsave.fill(0x55, 160, 416)
    cpu.special.efer |= EFER_FFXSR
    complete(FXSAVE64_RDI)
    expect(cpu.memory.page(DATA_PHYSICAL)[160]).toBe(0)
    cpu.special.efer &= ~EFER_FFXSR
    complete(FXSAVE64_RDI)
    expect(cpu.memory.page(DATA_PHYSICAL)[160]).toBe(0x55)
  })
})

describe('FPU instructions', () => {
  test('ldmxcsr marks SSE as in use, without which KVM would not load MXCSR', () => {
    new DataView(cpu.memory.page(DATA_PHYSICAL).buffer).setUint32(0, 0x1fa0, true)
    expect(complete(LDMXCSR_RDI)).toEqual(done)
    expect(new DataView(cpu.xsave.buffer).getUint32(24, true)).toBe(0x1fa0)
    expect(BigInt(cpu.xsave[XSTATE_BV] ?? 0)).toBe(SSE)
  })

  test('raise #NM with CR0.TS or CR0.EM, SSE and MMX ones #UD with EM', () => {
    cpu.special.cr0 |= CR0_TS
    expect([FNINIT, LDMXCSR_RDI, EMMS, FXSAVE64_RDI].map((code) => complete(code))).toMatchObject(
      Array(4).fill({ vector: VECTOR_NM }),
    )
    cpu.special.cr0 |= CR0_EM
    expect(complete(FNINIT)).toMatchObject({ vector: VECTOR_NM })
    expect(complete(LDMXCSR_RDI)).toEqual(ud)
    expect(complete(EMMS)).toEqual(ud)
  })
})

describe('segment bases', () => {
  test('swapgs exchanges GS base and IA32_KERNEL_GS_BASE', () => {
    cpu.special.gs.base = 0x1000n
    cpu.msrs.set(MSR_KERNEL_GS_BASE, 0xffff888000001000n)
    expect(complete(SWAPGS)).toEqual(done)
    expect(cpu.special.gs.base).toBe(0xffff888000001000n)
    expect(cpu.msrs.get(MSR_KERNEL_GS_BASE)).toBe(0x1000n)
  })

  test('swapgs is given up without that register, and needs CPL 0', () => {
    expect(complete(SWAPGS)).toMatchObject({ kind: 'unknown', reason: 'msr' })
    start(3)
    expect(complete(SWAPGS)).toEqual(gp)
  })

  test('wrfsbase, wrgsbase and rdfsbase', () => {
    cpu.general.rax = 0x7fff_1234_5678n
    complete(WRFSBASE_RAX)
    complete(WRGSBASE_EAX)
    complete(RDFSBASE_RCX)
    expect(cpu.special.fs.base).toBe(0x7fff_1234_5678n)
    expect(cpu.special.gs.base).toBe(0x1234_5678n)
    expect(cpu.general.rcx).toBe(0x7fff_1234_5678n)
  })

  test('refuse an address that is not canonical, and need CR4.FSGSBASE', () => {
    cpu.general.rax = 0x8000_0000_0000n
    expect(complete(WRFSBASE_RAX)).toEqual(gp)
    cpu.special.cr4 &= ~CR4_FSGSBASE
    expect(complete(WRFSBASE_RAX)).toEqual(ud)
  })
})

describe('time, processor and random numbers', () => {
  test('rdtscp gives the time-stamp counter and IA32_TSC_AUX', () => {
    cpu.msrs.set(MSR_TSC, 0x1_2345_6789n)
    cpu.msrs.set(MSR_TSC_AUX, 3n)
    expect(complete(RDTSCP)).toEqual(done)
    expect(cpu.general).toMatchObject({ rax: 0x2345_6789n, rdx: 1n, rcx: 3n })
    complete(RDPID_RDX)
    expect(cpu.general.rdx).toBe(3n)
  })

  test('rdtscp is privileged with CR4.TSD', () => {
    start(3)
    cpu.special.cr4 |= CR4_TSD
    expect(complete(RDTSCP)).toEqual(gp)
  })

  test('rdrand and rdseed take from the context, and set CF alone', () => {
    cpu.randomByte = 0xab
    cpu.general.rflags |= FLAG_ZF
    cpu.general.rcx = 0x11111111n
    complete(RDRAND_RAX)
    complete(RDSEED_CX)
    expect(cpu.general).toMatchObject({ rax: 0xabab_abab_abab_ababn, rcx: 0x1111ababn, rflags: 2n | FLAG_CF })
  })
})

describe('serialize', () => {
  test('does nothing that can be seen', () => {
    expect(complete(SERIALIZE)).toEqual(done)
  })
})

describe('segment queries', () => {
  const GDT = 0xfffffe0000001000n
  const CODE_KERNEL = 0x08
  const DATA_KERNEL = 0x10
  const DATA_READ_ONLY = 0x18
  const CODE_EXECUTE_ONLY = 0x20
  const TSS = 0x28
  const INTERRUPT_GATE = 0x38

  beforeEach(() => useGdt())

  function useGdt(): void {
    cpu.map(GDT, 0x8000, PTE_ALL & ~PTE_USER)
    cpu.special.gdt = { base: GDT, limit: 0x3f }
    cpu.memory.set64(0x8000 + CODE_KERNEL, 0x00af9b000000ffffn)
    cpu.memory.set64(0x8000 + DATA_KERNEL, 0x00cf93000000ffffn)
    cpu.memory.set64(0x8000 + DATA_READ_ONLY, 0x00cf91000000ffffn)
    cpu.memory.set64(0x8000 + CODE_EXECUTE_ONLY, 0x00af99000000ffffn)
    cpu.memory.set64(0x8000 + TSS, 0x0000890000000067n)
    cpu.memory.set64(0x8000 + INTERRUPT_GATE, 0x00008e0000000000n)
  }

  function query(bytes: number[], selector: number): boolean {
    cpu.general.rax = BigInt(selector)
    expect(complete(bytes)).toEqual(done)
    return (cpu.general.rflags & FLAG_ZF) !== 0n
  }

  test('verr and verw tell what may be read and written', () => {
    expect(
      [CODE_KERNEL, DATA_KERNEL, CODE_EXECUTE_ONLY, TSS, 0, 3, 0x40].map((s) => query(VERR_AX, s)),
    ).toEqual([true, true, false, false, false, false, false])
    expect([CODE_KERNEL, DATA_KERNEL, DATA_READ_ONLY].map((s) => query(VERW_AX, s))).toEqual([
      false,
      true,
      false,
    ])
  })

  test('a selector with less privilege than the segment sees nothing', () => {
    expect(query(VERW_AX, DATA_KERNEL | 3)).toBe(false)
  })

  test('lar gives the access rights, lsl the limit in bytes', () => {
    expect(query(LAR_ECX_EAX, DATA_KERNEL)).toBe(true)
    expect(cpu.general.rcx).toBe(0x00c09300n)
    expect(query(LSL_RCX_EAX, DATA_KERNEL)).toBe(true)
    expect(cpu.general.rcx).toBe(0xffffffffn)
    expect(query(LSL_RCX_EAX, TSS)).toBe(true)
    expect(cpu.general.rcx).toBe(0x67n)
  })

  test('lar and lsl leave the register alone when the descriptor does not qualify', () => {
    cpu.general.rcx = 0x55n
    expect(query(LAR_ECX_EAX, INTERRUPT_GATE)).toBe(false)
    expect(query(LSL_RCX_EAX, INTERRUPT_GATE)).toBe(false)
    expect(cpu.general.rcx).toBe(0x55n)
  })

  test('read the table as a supervisor even at CPL 3', () => {
    start(3)
    useGdt()
    expect(query(VERW_AX, DATA_KERNEL)).toBe(false)
    expect(cpu.general.rip).toBe(CODE + 3n)
  })

  test('raise #PF for a table that is not present', () => {
    cpu.special.gdt.base += 0x1000n
    cpu.general.rax = BigInt(DATA_KERNEL)
    expect(complete(VERW_AX)).toMatchObject({ vector: VECTOR_PF, errorCode: 0, cr2: GDT + 0x1010n })
  })

  test('take their selector from memory too', () => {
    cpu.general.rsi = DATA
    cpu.memory.page(DATA_PHYSICAL)[0] = DATA_KERNEL
    expect(query(VERW_RSI, 0)).toBe(true)
  })
})
