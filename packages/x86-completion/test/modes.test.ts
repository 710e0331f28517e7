import { describe, expect, test } from 'vitest'
import { describeMode, InstructionCompleter, VECTOR_GP, VECTOR_SS, VECTOR_UD } from '../src/index.ts'
import {
  FakeCpu,
  FEATURES,
  generalRegisters,
  longMode,
  protectedMode,
  realMode,
  segment,
} from './fake-cpu.ts'

const FLAG_VM = 1n << 17n

/** popcnt eax, the operand that follows. */
const POPCNT = [0xf3, 0x0f, 0xb8]
const OPERAND_SIZE = 0x66
const ADDRESS_SIZE = 0x67
const SEGMENT_ES = 0x26

describe('describeMode', () => {
  test.each([
    ['long mode CPL 0', longMode(0), 2n],
    ['long mode CPL 3', longMode(3), 2n],
    ['32-bit compatibility mode CPL 3', { ...longMode(3), cs: segment({ db: 1, l: 0, dpl: 3 }) }, 2n],
    ['32-bit protected mode CPL 0', protectedMode(0), 2n],
    ['16-bit protected mode CPL 1', protectedMode(1, 0), 2n],
    ['virtual-8086 mode', protectedMode(0, 0), 2n | FLAG_VM],
    ['real mode', realMode(), 2n],
  ])('%s', (name, special, rflags) => {
    expect(describeMode(special, { rflags })).toBe(name)
  })
})

describe('real mode', () => {
  function complete(bytes: number[], prepare: (cpu: FakeCpu) => void) {
    const cpu = new FakeCpu(realMode())
    cpu.general = generalRegisters({ rip: 0x7c00n, rax: 0xffff_ffffn })
    cpu.memory.page(0x12000)[0x345] = 0xff
    cpu.special.ds.base = 0x10000n
    cpu.special.es.base = 0x12000n
    cpu.special.ss.base = 0x11000n
    prepare(cpu)
    return { result: new InstructionCompleter(cpu, FEATURES).complete(Uint8Array.from(bytes)), cpu }
  }

  test('has 16-bit addresses in segments, and 16-bit operands', () => {
    const bytes = [...POPCNT, 0x40, 0x05] // ax, [bx + si + 5]
    const { result, cpu } = complete(bytes, ({ general }) => {
      general.rbx = 0xffff_2000n
      general.rsi = 0x0340n
    })
    expect(result.kind).toBe('completed')
    expect(cpu.general).toMatchObject({ rax: 0xffff_0008n, rip: 0x7c05n })
  })

  test('wraps 16-bit addresses within 64 KiB', () => {
    const { cpu } = complete([...POPCNT, 0x84, 0x00, 0x80], ({ general }) => {
      general.rsi = 0xa345n // [si - 0x8000] in DS
    })
    expect(cpu.general.rax).toBe(0xffff_0008n)
  })

  test('takes SS for BP, unless a prefix says otherwise', () => {
    const setBp = ({ general }: FakeCpu): void => {
      general.rbp = 0x1345n
    }
    expect(complete([...POPCNT, 0x46, 0x00], setBp).cpu.general.rax).toBe(0xffff_0008n)
    const es = complete([SEGMENT_ES, ...POPCNT, 0x46, 0x00], ({ general }) => {
      general.rbp = 0x0345n
    })
    expect(es.cpu.general.rax).toBe(0xffff_0008n)
  })

  test('has absolute addresses of 16 bits and, with 67, all of 32-bit addressing', () => {
    expect(complete([...POPCNT, 0x06, 0x45, 0x23], () => {}).cpu.general.rax).toBe(0xffff_0008n)
    const bytes = [ADDRESS_SIZE, OPERAND_SIZE, ...POPCNT, 0x44, 0xb5, 0x05] // eax, [ebp + esi * 4 + 5]
    const { cpu } = complete(bytes, ({ general }) => {
      general.rbp = 0x1000n
      general.rsi = 0xd0n
    })
    expect(cpu.general).toMatchObject({ rax: 8n, rip: 0x7c08n })
  })

  test('faults have no error code, and the stack segment its own vector', () => {
    const setHigh = ({ general }: FakeCpu): void => {
      general.rsi = 0xffffn
      general.rbp = 0xffffn
    }
    expect(complete([...POPCNT, 0x04], setHigh).result).toMatchObject({
      vector: VECTOR_GP,
      errorCode: undefined,
    })
    expect(complete([...POPCNT, 0x46, 0x00], setHigh).result).toMatchObject({ vector: VECTOR_SS })
  })

  test('has no LAR', () => {
    expect(complete([0x0f, 0x02, 0xc0], () => {}).result).toMatchObject({ vector: VECTOR_UD })
  })

  test('has no VEX, nor has virtual-8086 mode', () => {
    const andn = [0xc4, 0xe2, 0x78, 0xf2, 0xc3] // andn eax, eax, ebx
    expect(complete(andn, () => {}).result).toMatchObject({ vector: VECTOR_UD })
    const virtual = (cpu: FakeCpu): void => {
      cpu.special.cr0 = protectedMode(0).cr0
      cpu.general.rflags |= FLAG_VM
    }
    expect(complete(andn, virtual).result).toMatchObject({ vector: VECTOR_UD })
    const protected16 = (cpu: FakeCpu): void => {
      cpu.special.cr0 = protectedMode(0).cr0
    }
    expect(complete(andn, protected16).result).toMatchObject({ kind: 'completed', mnemonic: 'andn' })
  })
})

describe('protected mode', () => {
  const READ_EBX = [...POPCNT, 0x03]

  function complete(bytes: number[], prepare: (cpu: FakeCpu) => void) {
    const cpu = new FakeCpu(protectedMode(0))
    cpu.general = generalRegisters({ rip: 0x1000n, rbx: 0x2000n })
    cpu.memory.page(0x2000)
    cpu.memory.page(0x5000)
    prepare(cpu)
    return new InstructionCompleter(cpu, FEATURES).complete(Uint8Array.from(bytes))
  }

  test('checks the limit to the last byte', () => {
    const setLimit = (limit: number) => (cpu: FakeCpu) => {
      cpu.special.ds.limit = limit
    }
    expect(complete(READ_EBX, setLimit(0x2003)).kind).toBe('completed')
    expect(complete(READ_EBX, setLimit(0x2002))).toMatchObject({ vector: VECTOR_GP, errorCode: 0 })
  })

  test('has segments that grow down', () => {
    const TYPE_EXPAND_DOWN = 0b0110
    const setDs = (limit: number) => (cpu: FakeCpu) => {
      cpu.special.ds = segment({ type: TYPE_EXPAND_DOWN, limit })
    }
    expect(complete(READ_EBX, setDs(0x1fff)).kind).toBe('completed')
    expect(complete(READ_EBX, setDs(0x2000))).toMatchObject({ vector: VECTOR_GP })
  })

  test('refuses null segments, and writes to read-only ones', () => {
    const write = [0x0f, 0xc7, 0x0b] // cmpxchg8b [ebx]
    const setDs = (fields: Partial<ReturnType<typeof segment>>) => (cpu: FakeCpu) => {
      cpu.special.ds = segment(fields)
    }
    expect(complete(READ_EBX, setDs({ unusable: 1 }))).toMatchObject({ vector: VECTOR_GP })
    expect(complete(READ_EBX, setDs({ type: 1 })).kind).toBe('completed')
    expect(complete(write, setDs({ type: 1 }))).toMatchObject({ vector: VECTOR_GP })
    expect(complete(write, setDs({ type: 3 })).kind).toBe('completed')
  })

  test('adds the base, and wraps at 4 GiB', () => {
    let wrapped: FakeCpu | undefined
    complete(READ_EBX, (cpu) => {
      cpu.special.ds.base = 0xffff_f000n
      cpu.general.rbx = 0x6000n
      cpu.memory.page(0x5000)[0] = 0x0f
      wrapped = cpu
    })
    expect(wrapped?.general.rax).toBe(4n)
  })

  test('does not take 64-bit instructions, and reads REX bytes as INC and DEC', () => {
    const SWAPGS = [0x0f, 0x01, 0xf8]
    expect(complete(SWAPGS, () => {})).toMatchObject({ vector: VECTOR_UD })
    expect(complete([0x48, ...POPCNT, 0xc0], () => {})).toMatchObject({
      kind: 'unknown',
      reason: 'instruction',
    })
  })

  test('fetches code up to the limit of CS', () => {
    const bytes = complete([0xf3], (cpu) => {
      cpu.special.cs.limit = 0x1001
      cpu.memory.page(0x1000).set([...POPCNT, 0xc0])
    })
    expect(bytes).toMatchObject({ kind: 'exception', vector: VECTOR_GP, errorCode: 0, mnemonic: undefined })
  })
})
