import { beforeEach, describe, expect, test } from 'vitest'
import { InstructionCompleter, VECTOR_GP, VECTOR_PF, VECTOR_SS } from '../src/index.ts'
import {
  FakeCpu,
  FEATURES,
  generalRegisters,
  longMode,
  PAGE_SIZE,
  PTE_ACCESSED,
  PTE_ALL,
  PTE_DIRTY,
  PTE_LARGE,
  PTE_NX,
  PTE_PRESENT,
  PTE_USER,
  PTE_WRITABLE,
  protectedMode,
} from './fake-cpu.ts'

const CODE = 0xffffffff81000000n
const DATA = 0x7f0000000000n
const DATA_PHYSICAL = 0x5000

const PF_PRESENT = 0x01
const PF_WRITE = 0x02
const PF_USER = 0x04
const PF_RESERVED = 0x08
const PF_FETCH = 0x10
const PF_KEY = 0x20

const CR0_WP = 1n << 16n
const CR0_PG = 1n << 31n
const CR4_PSE = 1n << 4n
const CR4_PAE = 1n << 5n
const CR4_LA57 = 1n << 12n
const CR4_SMEP = 1n << 20n
const CR4_SMAP = 1n << 21n
const CR4_PKE = 1n << 22n
const EFER_NXE = 1n << 11n
const FLAG_AC = 1n << 18n

/** popcnt eax, [rsi]: a read. */
const READ = [0xf3, 0x0f, 0xb8, 0x06]
/** cmpxchg8b [rsi]: a write, whatever it compares to. */
const WRITE = [0x0f, 0xc7, 0x0e]
/** popcnt eax, [rbp]: a read through SS. */
const READ_STACK = [0xf3, 0x0f, 0xb8, 0x45, 0x00]

let cpu: FakeCpu
let completer: InstructionCompleter

beforeEach(() => start(0))

function start(cpl: number): void {
  cpu = new FakeCpu(longMode(cpl))
  cpu.general.rip = CODE
  cpu.general.rsi = DATA
  completer = new InstructionCompleter(cpu, FEATURES)
}

function complete(bytes: number[]) {
  return completer.complete(Uint8Array.from(bytes))
}

function pageFault(errorCode: number, cr2: bigint = DATA) {
  return expect.objectContaining({ kind: 'exception', vector: VECTOR_PF, errorCode, cr2 })
}

const done = expect.objectContaining({ kind: 'completed' })
const SUPERVISOR = PTE_ALL & ~PTE_USER

describe('a supervisor access', () => {
  test('to a page that is not present faults without the present bit', () => {
    cpu.map(DATA, DATA_PHYSICAL, SUPERVISOR & ~PTE_PRESENT)
    expect(complete(READ)).toEqual(pageFault(0))
    expect(complete(WRITE)).toEqual(pageFault(PF_WRITE))
  })

  test('may write a read-only page while CR0.WP is clear', () => {
    cpu.map(DATA, DATA_PHYSICAL, SUPERVISOR & ~PTE_WRITABLE)
    expect(complete(WRITE)).toEqual(pageFault(PF_PRESENT | PF_WRITE))
    cpu.special.cr0 &= ~CR0_WP
    expect(complete(WRITE)).toEqual(done)
  })

  test('to a user page faults under SMAP unless RFLAGS.AC is set', () => {
    cpu.map(DATA, DATA_PHYSICAL)
    expect(complete(READ)).toEqual(pageFault(PF_PRESENT))
    cpu.general.rflags |= FLAG_AC
    expect(complete(READ)).toEqual(done)
    cpu.special.cr4 &= ~CR4_SMAP
    cpu.general.rflags &= ~FLAG_AC
    expect(complete(READ)).toEqual(done)
  })

  test('to a page counts as user only if every level says user', () => {
    cpu.map(DATA, DATA_PHYSICAL)
    const above = cpu.entryAddress(DATA, 3)
    cpu.memory.set64(above, cpu.memory.get64(above) & ~PTE_USER)
    expect(complete(READ)).toEqual(done)
  })

  test('of code on a user page faults under SMEP', () => {
    const userCode = 0x400000n
    cpu.map(userCode, 0x9000)
    cpu.memory.page(0x9000).set([0xf3, 0x0f, 0xb8, 0xc7])
    cpu.general.rip = userCode
    expect(complete([])).toEqual(pageFault(PF_PRESENT | PF_FETCH, userCode))
    cpu.special.cr4 &= ~CR4_SMEP
    expect(complete([])).toEqual(done)
  })
})

describe('a user access', () => {
  beforeEach(() => start(3))

  test('to a supervisor page faults as user', () => {
    cpu.map(DATA, DATA_PHYSICAL, SUPERVISOR)
    expect(complete(READ)).toEqual(pageFault(PF_PRESENT | PF_USER))
  })

  test('of code on a page with NX set tells of the fetch', () => {
    cpu.general.rip = DATA
    cpu.map(DATA, DATA_PHYSICAL, PTE_ALL | PTE_NX)
    expect(complete([])).toEqual(pageFault(PF_PRESENT | PF_USER | PF_FETCH))
  })

  test('is checked against the protection key of the page', () => {
    const key = 5n
    const pkru = (bits: number): void => {
      new DataView(cpu.xsave.buffer).setUint32(2432, bits << (Number(key) * 2), true)
      new DataView(cpu.xsave.buffer).setBigUint64(512, 1n << 9n, true)
    }
    cpu.special.cr4 |= CR4_PKE
    cpu.map(DATA, DATA_PHYSICAL, PTE_ALL | (key << 59n))
    expect(complete(WRITE)).toEqual(done)
    pkru(0b10)
    expect(complete(READ)).toEqual(done)
    expect(complete(WRITE)).toEqual(pageFault(PF_PRESENT | PF_WRITE | PF_USER | PF_KEY))
    pkru(0b01)
    expect(complete(READ)).toEqual(pageFault(PF_PRESENT | PF_USER | PF_KEY))
  })
})

describe('reserved bits', () => {
  test('above the physical address width fault', () => {
    cpu.map(DATA, DATA_PHYSICAL, SUPERVISOR | (1n << BigInt(FEATURES.physicalAddressBits)))
    expect(complete(READ)).toEqual(pageFault(PF_PRESENT | PF_RESERVED))
  })

  test('include NX while EFER.NXE is clear', () => {
    cpu.special.efer &= ~EFER_NXE
    cpu.map(DATA, DATA_PHYSICAL, SUPERVISOR | PTE_NX)
    expect(complete(READ)).toEqual(pageFault(PF_PRESENT | PF_RESERVED))
  })

  test('include the low frame bits of a large page', () => {
    cpu.memory.set64(cpu.entryAddress(DATA, 2), 0x3000n | SUPERVISOR | PTE_LARGE)
    expect(complete(READ)).toEqual(pageFault(PF_PRESENT | PF_RESERVED))
  })
})

describe('accessed and dirty bits', () => {
  const fresh = SUPERVISOR & ~(PTE_ACCESSED | PTE_DIRTY)

  test('a read sets accessed at every level', () => {
    cpu.map(DATA, DATA_PHYSICAL, fresh)
    const levels = [1, 2, 3, 4].map((level) => cpu.entryAddress(DATA, level))
    for (const entry of levels) cpu.memory.set64(entry, cpu.memory.get64(entry) & ~(PTE_ACCESSED | PTE_DIRTY))
    complete(READ)
    const bits = levels.map((entry) => cpu.memory.get64(entry) & (PTE_ACCESSED | PTE_DIRTY))
    expect(bits).toEqual([PTE_ACCESSED, PTE_ACCESSED, PTE_ACCESSED, PTE_ACCESSED])
  })

  test('a write whose second page faults leaves the first page clean', () => {
    const crossing = DATA + BigInt(PAGE_SIZE) - 4n
    cpu.map(DATA, DATA_PHYSICAL, fresh)
    cpu.general.rsi = crossing
    expect(complete(WRITE)).toEqual(pageFault(PF_WRITE, DATA + BigInt(PAGE_SIZE)))
    expect(cpu.memory.get64(cpu.entryAddress(DATA)) & PTE_DIRTY).toBe(0n)
  })

  test('are set again when the guest changes the entry under the walk', () => {
    cpu.map(DATA, DATA_PHYSICAL, fresh)
    const entry = cpu.entryAddress(DATA)
    const { memory } = cpu
    const compareExchange = memory.compareExchange.bind(memory)
    let races = 0
    memory.compareExchange = (address, expected, replacement) => {
      if (races++ === 0) memory.set64(entry, 0x6000n | fresh)
      memory.page(0x6000)[0] = 0b111
      return compareExchange(address, expected, replacement)
    }
    expect(complete(READ)).toEqual(done)
    expect(cpu.general.rax).toBe(3n)
  })

  test('an entry that never settles is given up', () => {
    cpu.map(DATA, DATA_PHYSICAL, fresh)
    cpu.memory.compareExchange = () => false
    expect(complete(READ)).toMatchObject({ kind: 'unknown', reason: 'contended' })
  })
})

describe('pages of other sizes and depths', () => {
  test('2 MiB and 1 GiB', () => {
    cpu.memory.page(0x200000 + 0x5000)[0] = 0b11
    cpu.general.rsi = DATA + 0x5000n
    cpu.memory.set64(cpu.entryAddress(DATA, 2), 0x200000n | SUPERVISOR | PTE_LARGE)
    expect(complete(READ)).toEqual(done)
    expect(cpu.general.rax).toBe(2n)
    const gigabyte = DATA + (1n << 30n)
    cpu.memory.page(0x40000000 + 0x7000)[0] = 0b111
    cpu.general.rsi = gigabyte + 0x7000n
    cpu.memory.set64(cpu.entryAddress(gigabyte, 3), 0x40000000n | SUPERVISOR | PTE_LARGE)
    expect(complete(READ)).toEqual(done)
    expect(cpu.general.rax).toBe(3n)
  })

  test('five levels', () => {
    const high = 0x00ff_0000_0000_0000n
    cpu.map(high & 0xffff_ffff_ffffn, DATA_PHYSICAL, SUPERVISOR)
    const root = 0x300000
    cpu.memory.set64(root + 0xff * 8, cpu.special.cr3 | PTE_ALL)
    cpu.memory.page(DATA_PHYSICAL)[0] = 1
    cpu.general.rsi = high
    expect(complete(READ)).toMatchObject({ vector: VECTOR_GP })
    cpu.special.cr3 = BigInt(root)
    cpu.special.cr4 |= CR4_LA57
    expect(complete(READ)).toEqual(done)
    expect(cpu.general.rax).toBe(1n)
  })

  test('PAE outside of long mode', () => {
    use32BitPaging(CR4_PAE)
    cpu.memory.set64(0x1000 + 1 * 8, 0x2000n | PTE_PRESENT)
    cpu.memory.page(0x2000)
    cpu.memory.set64(0x2000, 0x3000n | PTE_ALL)
    cpu.memory.page(0x3000)
    cpu.memory.set64(0x3000 + 5 * 8, 0x1_0000_5000n | PTE_ALL)
    cpu.memory.page(0x1_0000_5000)[0] = 0b1111
    cpu.general.rsi = 0x40005000n
    expect(complete(READ)).toEqual(done)
    expect(cpu.general.rax).toBe(4n)
    cpu.memory.set64(0x1000 + 1 * 8, 0n)
    expect(complete(READ)).toEqual(pageFault(0, 0x40005000n))
  })

  test('32-bit tables, with a 4 MiB page beyond 4 GiB', () => {
    use32BitPaging(CR4_PSE)
    const view = new DataView(cpu.memory.page(0x1000).buffer)
    view.setUint32(4, 0x2000 | Number(PTE_ALL), true)
    new DataView(cpu.memory.page(0x2000).buffer).setUint32(5 * 4, 0x5000 | Number(PTE_ALL), true)
    cpu.memory.page(0x5000)[0] = 1
    cpu.general.rsi = 0x00405000n
    expect(complete(READ)).toEqual(done)
    expect(cpu.general.rax).toBe(1n)
    view.setUint32(8, (1 << 13) | Number(PTE_ALL | PTE_LARGE), true)
    cpu.memory.page(0x1_0000_6000)[0] = 0b11
    cpu.general.rsi = 0x00806000n
    expect(complete(READ)).toEqual(done)
    expect(cpu.general.rax).toBe(2n)
  })

  function use32BitPaging(cr4: bigint): void {
    cpu.special = { ...protectedMode(0), cr3: 0x1000n, cr4 }
    cpu.special.cr0 |= CR0_PG
    cpu.memory.page(0x1000)
    cpu.general = generalRegisters({ rip: 0x1000n })
  }
})

describe('what is no memory', () => {
  test('an operand on a device is given up', () => {
    cpu.map(DATA, DATA_PHYSICAL, SUPERVISOR)
    cpu.memory.pages.delete(DATA_PHYSICAL)
    expect(complete(READ)).toMatchObject({ kind: 'unknown', reason: 'operand-not-memory' })
  })

  test('page tables on a device are given up', () => {
    cpu.special.cr3 = 0xfee00000n
    expect(complete(READ)).toMatchObject({ kind: 'unknown', reason: 'page-table' })
  })

  test('an address that is not canonical raises #GP, or #SS through the stack segment', () => {
    cpu.general.rsi = 0x8000_0000_0000n
    cpu.general.rbp = 0x7fff_ffff_fffdn
    expect(complete(READ)).toMatchObject({ vector: VECTOR_GP, errorCode: 0 })
    expect(complete(READ_STACK)).toMatchObject({ vector: VECTOR_SS, errorCode: 0 })
  })
})
