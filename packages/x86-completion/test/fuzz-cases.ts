/** Makes instructions at random out of the rows of the table, with memory operands that lie where it hurts. */

import type { CpuFeatures } from '../src/index.ts'
import type { Encoding } from '../src/instruction.ts'
import { settleX87 } from './compare.ts'
import {
  AREA_SIZE,
  CODE_BASE,
  type CodeCase,
  DATA_BASE,
  DATA_SIZE,
  GS_BASE,
  PAGE_SIZE,
  PROT_EXEC,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from './native-cpu.ts'
import type { Random } from './random.ts'

/** What the generator has to know of an instruction beside its encoding. */
export interface FuzzHints {
  /** The name of the CPU feature in /proc/cpuinfo that it needs. */
  feature?: string
  /** Bytes of the memory operand; absent: the operand size. */
  operandBytes?: number
  /** Status flags that manuals leave undefined. */
  undefinedFlags?: number
  /** The operand is an XSAVE or FXSAVE area. */
  area?: 'xsave' | 'fxsave'
  /** General registers that need a value of their own. */
  prepare?: (random: Random, registers: bigint[], data: DataView, target: number) => void
}

/** CF, PF, AF, ZF, SF, OF. */
const STATUS_FLAGS = 0x8d5
const FLAG_AC = 0x40000
const MXCSR_INITIAL = 0x1f80
const NON_CANONICAL = 0x8000_0000_0000n
const PREFIXES_64 = [0x66, 0x67, 0x2e, 0x36, 0x3e, 0x26, 0x65, 0xf2, 0xf3, 0xf0]
const PROTECTIONS = [PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE]

export interface CaseMaker {
  readonly random: Random
  readonly encoding: Encoding
  readonly hints: FuzzHints
  readonly is32Bit: boolean
  readonly features: CpuFeatures
  readonly xcr0: bigint
  readonly mxcsrMask: number
}

export function makeCase(maker: CaseMaker): CodeCase {
  const { random, is32Bit, hints } = maker
  const registers = Array.from({ length: 16 }, () => (is32Bit ? BigInt(random.word()) : random.quad()))
  const data = new Uint8Array(DATA_SIZE)
  random.fill(data.subarray(PAGE_SIZE - 64, PAGE_SIZE + 64))
  const area = new Uint8Array(AREA_SIZE)
  fillArea(maker, new DataView(area.buffer), maker.xcr0, 'state')

  const target = chooseTarget(maker)
  if (hints.area !== undefined && target >= DATA_BASE && target + AREA_SIZE / 2 <= DATA_BASE + DATA_SIZE) {
    const offset = target - DATA_BASE
    const whole = new Uint8Array(AREA_SIZE)
    fillArea(maker, new DataView(whole.buffer), maker.xcr0, 'operand')
    data.set(whole.subarray(0, DATA_SIZE - offset), offset)
  }
  hints.prepare?.(random, registers, new DataView(data.buffer), target - DATA_BASE)
  const isCrossing = random.oneIn(8)
  const code = encode(maker, registers, target, isCrossing)
  const codeOffset = isCrossing ? PAGE_SIZE - 1 - random.below(code.length) : 0
  // In 32-bit code FXSAVE's order of alignment and segment checks is nobody's contract.
  const checksAlignment = random.oneIn(8) && !(is32Bit && hints.area === 'fxsave')
  return {
    registers,
    flags: (random.oneIn(2) ? random.word() & STATUS_FLAGS : 0) | (checksAlignment ? FLAG_AC : 0),
    is32Bit,
    codeOffset,
    code,
    protection: [
      random.oneIn(4) ? PROT_NONE : PROT_READ | PROT_WRITE | PROT_EXEC,
      random.oneIn(4) ? random.pick(PROTECTIONS) : PROT_READ | PROT_WRITE,
      random.oneIn(4) ? random.pick(PROTECTIONS) : PROT_READ | PROT_WRITE,
    ],
    area,
    data,
  }
}

/** Where the memory operand lies: mostly aligned or around the page boundary, now and then outside of all pages. */
function chooseTarget({ random, hints }: CaseMaker): number {
  if (hints.area !== undefined) {
    const alignment = random.oneIn(12) ? 4 : hints.area === 'xsave' ? 64 : 16
    return DATA_BASE + Math.floor(random.below(PAGE_SIZE) / alignment) * alignment
  }
  switch (random.below(6)) {
    case 0:
    case 1:
      return DATA_BASE + PAGE_SIZE - 32 + random.below(40)
    case 2:
      return DATA_BASE + PAGE_SIZE - 16 * random.below(3)
    case 3:
      return DATA_BASE + DATA_SIZE - random.below(24)
    case 4:
      return DATA_BASE - random.below(24)
    default:
      return DATA_BASE + PAGE_SIZE + 16 * random.below(4)
  }
}

/** The instruction's bytes; registers that address memory are given values that lead to `target`. */
function encode(maker: CaseMaker, registers: bigint[], target: number, isCrossing: boolean): Uint8Array {
  const { random, encoding, is32Bit } = maker
  const prefixes: number[] = []
  if (random.oneIn(3)) for (let n = random.below(3); n >= 0; n--) prefixes.push(random.pick(PREFIXES_64))
  if (random.oneIn(60)) for (let n = 0; n < 12; n++) prefixes.push(random.pick([0x2e, 0x66]))
  // A whole area at the end of 64 KiB of 16-bit addresses: CPUs wrap within it, and completion does not.
  if (is32Bit && maker.hints.area !== undefined) remove(prefixes, 0x67)
  let rex = !is32Bit && random.oneIn(2) ? 0x40 | random.below(16) : 0
  if (encoding.vex === undefined) {
    const mandatory = { np: [], '66': [0x66], f2: [0xf2], f3: [0xf3] }[encoding.prefix ?? 'np']
    prefixes.splice(random.below(prefixes.length + 1), 0, ...mandatory)
    if (rex !== 0) prefixes.push(rex)
  } else {
    rex = 0
  }
  if (rex !== 0 && random.oneIn(20)) prefixes.push(0x66)
  const bytes = [...prefixes]
  let extension = rex
  if (encoding.vex === undefined) {
    for (let shift = 16; shift >= 0; shift -= 8) {
      const byte = (encoding.opcode >> shift) & 0xff
      if (encoding.opcode >> shift !== 0) bytes.push(byte)
    }
  } else {
    extension = pushVex(maker, bytes)
  }
  const operand = pushModrm(maker, bytes, registers, extension, is32Bit && prefixes.includes(0x67))
  if (encoding.immediate === 1) bytes.push(random.below(256))
  if (operand !== undefined) solve(maker, bytes, prefixes, registers, target, operand, isCrossing)
  return Uint8Array.from(bytes)
}

/** Pushes a three-byte VEX prefix (or a two-byte one where it can) and the opcode; gives the REX that it stands for. */
function pushVex({ random, encoding, is32Bit }: CaseMaker, bytes: number[]): number {
  const map = encoding.opcode >> 8 === 0x0f38 ? 2 : encoding.opcode >> 8 === 0x0f3a ? 3 : 1
  const pp = { np: 0, '66': 1, f3: 2, f2: 3 }[encoding.prefix ?? 'np']
  const extension = is32Bit ? 0 : random.below(8)
  const w = random.below(2)
  const l = random.oneIn(16) ? 1 : 0
  const vvvv = encoding.vvvv === 'unused' && !random.oneIn(16) ? 15 : random.below(16)
  // In 32-bit code the inverted R and X have to be set, and the top bit of vvvv too.
  bytes.push(0xc4, ((~extension & 7) << 5) | map)
  bytes.push((w << 7) | ((is32Bit ? vvvv | 8 : vvvv) << 3) | (l << 2) | pp, encoding.opcode & 0xff)
  return 0x40 | (w << 3) | extension
}

interface MemoryForm {
  base: number
  index: number
  scale: number
  displacement: number
  displacementAt: number
  displacementBytes: number
  isRipRelative: boolean
}

/** Pushes ModRM, SIB and room for a displacement; gives the memory operand's form, if it is one of 32- or 64-bit addressing. */
function pushModrm(
  { random, encoding, is32Bit }: CaseMaker,
  bytes: number[],
  registers: bigint[],
  rex: number,
  is16BitAddress: boolean,
): MemoryForm | undefined {
  const { modrm, digit } = encoding
  if (modrm === undefined) return undefined
  if (typeof modrm === 'number') {
    bytes.push(modrm)
    return undefined
  }
  const reg = digit ?? random.below(8)
  const isRegister =
    modrm === 'register' ? !random.oneIn(16) : modrm === 'either' ? random.oneIn(2) : random.oneIn(16)
  if (isRegister) {
    bytes.push(0xc0 | (reg << 3) | random.below(8))
    return undefined
  }
  const mod = random.below(3)
  const rm = random.below(8)
  bytes.push((mod << 6) | (reg << 3) | rm)
  if (is16BitAddress) {
    // Addresses below 64 KiB, where nothing is mapped: that it is decoded to the right length is what counts.
    const bytesOfDisplacement = mod === 0 && rm === 6 ? 2 : mod
    pushNumber(bytes, random.word(), bytesOfDisplacement)
    return undefined
  }
  let base = rm
  let index = -1
  let scale = 1
  if (rm === 4) {
    const sib = random.below(256)
    bytes.push(sib)
    base = sib & 7
    const number = ((sib >> 3) & 7) | ((rex & 2) << 2)
    if (number !== 4) index = number
    scale = 1 << (sib >> 6)
  }
  const hasNoBase = mod === 0 && base === 5
  const displacementBytes = hasNoBase || mod === 2 ? 4 : mod
  const displacementAt = bytes.length
  const displacement = displacementBytes === 1 ? (random.below(256) << 24) >> 24 : random.below(0x1000)
  pushNumber(bytes, displacement, displacementBytes)
  if (index >= 0 && random.oneIn(2)) registers[index] = BigInt(random.below(256))
  return {
    base: hasNoBase ? -1 : base | ((rex & 1) << 3),
    index,
    scale,
    displacement: displacementBytes === 0 ? 0 : displacement,
    displacementAt,
    displacementBytes,
    isRipRelative: hasNoBase && rm === 5 && !is32Bit,
  }
}

/** Sets the base register, or else the displacement, so that the operand is at `target`. */
function solve(
  { random, is32Bit }: CaseMaker,
  bytes: number[],
  prefixes: number[],
  registers: bigint[],
  target: number,
  form: MemoryForm,
  isCrossing: boolean,
): void {
  const bits = is32Bit ? 32 : 64
  const hasShortAddress = prefixes.includes(0x67)
  let wanted = BigInt(target)
  if (!is32Bit && prefixes.includes(0x65)) wanted -= BigInt(GS_BASE)
  const indexed = form.index < 0 ? 0n : (registers[form.index] ?? 0n) * BigInt(form.scale)
  if (form.base === -1) {
    const rip = form.isRipRelative && !isCrossing ? BigInt(CODE_BASE + bytes.length) : 0n
    const displacement = Number(BigInt.asIntN(32, wanted - indexed - rip))
    const patched: number[] = []
    pushNumber(patched, displacement, 4)
    bytes.splice(form.displacementAt, 4, ...patched)
    return
  }
  let base = wanted - BigInt(form.displacement)
  // Base and index in one register: any address that the sum can reach will do.
  if (form.base === form.index) base = (wanted - BigInt(form.displacement)) / BigInt(form.scale + 1)
  else base -= indexed
  if (!is32Bit && hasShortAddress) base = BigInt.asUintN(32, base) | (BigInt(random.word()) << 32n)
  else if (!is32Bit && random.oneIn(24)) base += NON_CANONICAL
  registers[form.base] = BigInt.asUintN(bits, base)
}

function remove(prefixes: number[], prefix: number): void {
  const rest = prefixes.filter((byte) => byte !== prefix)
  prefixes.splice(0, prefixes.length, ...rest)
}

function pushNumber(bytes: number[], value: number, size: number): void {
  for (let i = 0; i < size; i++) bytes.push((value >> (8 * i)) & 0xff)
}

/** Fills a standard-format area with random state; one that is an operand is sometimes compacted, sometimes wrong. */
function fillArea(
  { random, features, xcr0, mxcsrMask }: CaseMaker,
  view: DataView,
  enabled: bigint,
  purpose: 'state' | 'operand',
): void {
  const bytes = new Uint8Array(view.buffer)
  const isOperand = purpose === 'operand'
  const present = random.oneIn(4) ? enabled : BigInt(random.word()) & enabled
  if (isOperand) random.fill(bytes.subarray(0, 512))
  view.setUint16(0, (random.word() & 0x1f3f) | 0x40 | (random.oneIn(3) ? 0 : 0x3f), true)
  view.setUint16(2, random.oneIn(2) ? 0 : random.word() & 0xffff, true)
  view.setUint16(4, isOperand ? random.word() & 0xffff : random.below(256), true)
  view.setUint16(6, random.word() & 0x7ff, true)
  view.setBigUint64(8, random.quad() & 0x7fff_ffff_ffffn, true)
  view.setBigUint64(16, random.quad() & 0x7fff_ffff_ffffn, true)
  const wild = isOperand && random.oneIn(8) ? -1 : mxcsrMask
  view.setUint32(24, random.oneIn(3) ? MXCSR_INITIAL : random.word() & wild, true)
  // What KVM takes for the initial MXCSR, whatever is in memory.
  if (!isOperand && (present & 0b110n) === 0n) view.setUint32(24, MXCSR_INITIAL, true)
  for (let st = 32; st < 160; st += 16) random.fill(bytes.subarray(st, st + 10))
  random.fill(bytes.subarray(160, 416))
  view.setBigUint64(512, present, true)
  if (!isOperand) settleX87(view)
  const isCompacted = isOperand && random.oneIn(3)
  if (isCompacted) {
    const layout = BigInt(random.word()) & xcr0
    view.setBigUint64(520, layout | (1n << 63n), true)
    if (!random.oneIn(8)) view.setBigUint64(512, present & layout, true)
    random.fill(bytes.subarray(576, 2600))
  }
  for (const { offset, size, index } of features.xsaveComponents) {
    const isEnabled = (xcr0 & (1n << BigInt(index))) !== 0n
    if (isEnabled && offset !== 0) random.fill(bytes.subarray(offset, offset + size))
  }
  if (isOperand && random.oneIn(8)) bytes[512 + random.below(64)] = 1 << random.below(8)
  if (isOperand && random.oneIn(8)) view.setUint32(512, random.word() & 0xff, true)
}
