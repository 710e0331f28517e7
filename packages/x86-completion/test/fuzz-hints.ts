/** What the fuzzer has to know of each instruction that its encoding does not say. */

import type { FuzzHints } from './fuzz-cases.ts'
import type { Random } from './random.ts'

const FLAG_PF = 0x4
const FLAG_AF = 0x10
const FLAG_SF = 0x80
const FLAG_OF = 0x800

const RAX = 0
const RCX = 1
const RDX = 2

/** Components at random, more often all of them. */
function prepareMask(random: Random, registers: bigint[]): void {
  registers[RAX] = random.oneIn(2) ? 0xffffffffn : BigInt(random.word())
  registers[RDX] = BigInt(random.oneIn(2) ? 0 : random.word())
}

/** What memory holds, half of the time, so that the comparison succeeds. */
function prepareComparand(random: Random, registers: bigint[], data: DataView, target: number): void {
  if (random.oneIn(2) || target < 0 || target + 16 > data.byteLength) return
  const half = random.oneIn(2) ? 8 : 4
  const read = (at: number): bigint =>
    half === 8 ? data.getBigUint64(at, true) : BigInt(data.getUint32(at, true))
  registers[RAX] = read(target)
  registers[RDX] = read(target + half)
}

function prepareXcrIndex(random: Random, registers: bigint[]): void {
  registers[RCX] = BigInt(random.oneIn(2) ? 0 : random.below(3)) | (BigInt(random.word()) << 32n)
}

function prepareMxcsr(random: Random, _registers: bigint[], data: DataView, target: number): void {
  if (target >= 0 && target + 4 <= data.byteLength && !random.oneIn(4)) {
    data.setUint32(target, random.word() & 0xffff, true)
  }
}

const xsave: FuzzHints = { area: 'xsave', prepare: prepareMask }
const bitScan: FuzzHints = { undefinedFlags: FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF }

export const FUZZ_HINTS: Readonly<Record<string, FuzzHints>> = {
  popcnt: { feature: 'popcnt' },
  tzcnt: { feature: 'bmi1', ...bitScan },
  lzcnt: { feature: 'abm', ...bitScan },
  'cmpxchg8b/16b': { feature: 'cx16', operandBytes: 16, prepare: prepareComparand },
  clac: { feature: 'smap' },
  stac: { feature: 'smap' },
  xsave,
  fxsave: { area: 'fxsave' },
  fxrstor: { area: 'fxsave' },
  xgetbv: { feature: 'xgetbv1', prepare: prepareXcrIndex },
  xsetbv: { prepare: prepareXcrIndex },
  clflushopt: { feature: 'clflushopt' },
  clwb: { feature: 'clwb' },
  serialize: { feature: 'serialize' },
  prefetchw: { feature: '3dnowprefetch' },
  adcx: { feature: 'adx' },
  adox: { feature: 'adx' },
  'crc32 r/m8': { feature: 'sse4_2', operandBytes: 1 },
  crc32: { feature: 'sse4_2' },
  ldmxcsr: { prepare: prepareMxcsr },
  andn: { feature: 'bmi1', undefinedFlags: FLAG_AF | FLAG_PF },
  bextr: { feature: 'bmi1', undefinedFlags: FLAG_SF | FLAG_AF | FLAG_PF },
  blsr: { feature: 'bmi1', undefinedFlags: FLAG_AF | FLAG_PF },
  blsmsk: { feature: 'bmi1', undefinedFlags: FLAG_AF | FLAG_PF },
  blsi: { feature: 'bmi1', undefinedFlags: FLAG_AF | FLAG_PF },
  bzhi: { feature: 'bmi2', undefinedFlags: FLAG_AF | FLAG_PF },
  pdep: { feature: 'bmi2' },
  pext: { feature: 'bmi2' },
  shlx: { feature: 'bmi2' },
  shrx: { feature: 'bmi2' },
  sarx: { feature: 'bmi2' },
  mulx: { feature: 'bmi2' },
  rorx: { feature: 'bmi2' },
  xrstor: xsave,
  xsaveopt: { feature: 'xsaveopt', ...xsave },
  xsavec: { feature: 'xsavec', ...xsave },
  xsaves: { feature: 'xsaves', ...xsave },
  xrstors: { feature: 'xsaves', ...xsave },
}

/** Mnemonics that can't be compared at CPL 3, and why. */
export const NOT_FUZZED: ReadonlyMap<string, string> = new Map([
  ['verr', "the descriptor tables are the host kernel's"],
  ['verw', "the descriptor tables are the host kernel's"],
  ['lar', "the descriptor tables are the host kernel's"],
  ['lsl', "the descriptor tables are the host kernel's"],
  ['rdfsbase', "the runner's C library needs its own FS base"],
  ['wrfsbase', "the runner's C library needs its own FS base"],
  ['wrgsbase', 'later cases would start with another GS base'],
  ['rdpid', "the number of the host's CPU is not known beforehand"],
  ['rdtscp', 'time passes'],
  ['rdrand', 'random'],
  ['rdseed', 'random'],
])
