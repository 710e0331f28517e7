/** The real CPU as the other half of a comparison: the runner's client. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type CpuFeatures, type CpuidEntry, featuresFromCpuid } from '../src/index.ts'

const SOURCE = fileURLToPath(new URL('native/runner.c', import.meta.url))
// No SSE and no red zone: the signal handler runs with the case's flags on.
const COMPILER_FLAGS = ['-O1', '-Wall', '-Wextra', '-Werror', '-mgeneral-regs-only', '-mno-red-zone']

export const PAGE_SIZE = 4096
export const CODE_BASE = 0x10000000
export const DATA_BASE = 0x20000000
export const GS_BASE = 0x100000
export const AREA_SIZE = 4096
export const DATA_SIZE: number = 2 * PAGE_SIZE

/** PROT_ bits of <sys/mman.h>. */
export const PROT_NONE = 0
export const PROT_READ = 1
export const PROT_WRITE = 2
export const PROT_EXEC = 4

/** State before an instruction: what both sides start from. */
export interface CodeCase {
  registers: bigint[]
  flags: number
  is32Bit: boolean
  /** In the first code page. */
  codeOffset: number
  code: Uint8Array
  /** Protection of the second code page and of both data pages. */
  protection: [number, number, number]
  /** x87, SSE and extended state, standard format. */
  area: Uint8Array
  data: Uint8Array
}

/** State after it. A vector of 3 with RIP behind the instruction is the INT3 that follows it. */
export interface Outcome {
  registers: bigint[]
  rip: bigint
  flags: number
  vector: number
  errorCode: number
  cr2: bigint
  area: Uint8Array
  data: Uint8Array
}

const CASE_HEADER = 16 * 8 + 4 * 4 + 3 * 4 + 4 + 32
const CASE_SIZE = CASE_HEADER + AREA_SIZE + DATA_SIZE
const OUTCOME_HEADER = 18 * 8 + 4 * 4
const OUTCOME_SIZE = OUTCOME_HEADER + AREA_SIZE + DATA_SIZE

/** What keeps the comparison from running here; undefined if nothing does. */
export function whyNoNativeCpu(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the host is not x86-64 Linux'
  try {
    execFileSync('gcc', ['--version'], { stdio: 'ignore' })
  } catch {
    return 'there is no gcc'
  }
  return cpuFlags().has('xsave') ? undefined : 'the CPU has no XSAVE'
}

/** The feature names of /proc/cpuinfo. */
export function cpuFlags(): Set<string> {
  const line = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))
  return new Set(line?.[1]?.trim().split(' '))
}

export class NativeCpu {
  readonly features: CpuFeatures
  readonly xcr0: bigint
  readonly mxcsrMask: number
  readonly #directory: string
  readonly #child: ChildProcess
  #received: Buffer[] = []
  #receivedSize = 0
  #ended: Error | undefined
  #resolve: ((outcome: Buffer) => void) | undefined
  #reject: ((error: Error) => void) | undefined

  constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), 'x86-completion-'))
    const program = join(this.#directory, 'runner')
    execFileSync('gcc', [...COMPILER_FLAGS, '-o', program, SOURCE])
    const lines = execFileSync(program, ['cpu'], { encoding: 'utf8' }).trim().split('\n')
    this.mxcsrMask = Number(lines.pop())
    this.xcr0 = BigInt(lines.pop() ?? 0)
    this.features = featuresFromCpuid(lines.map(parseLeaf))
    this.#child = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child.stdout?.on('data', (chunk: Buffer) => this.#receive(chunk))
    this.#child.on('exit', (code, signal) => {
      this.#ended = new Error(`the runner has ended: ${code ?? signal}`)
      this.#reject?.(this.#ended)
    })
  }

  /** Executes one case. */
  async run(code: CodeCase): Promise<Outcome> {
    if (this.#ended !== undefined) throw this.#ended
    const outcome = new Promise<Buffer>((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.#child.stdin?.write(encodeCase(code))
    return decodeOutcome(await outcome)
  }

  close(): void {
    this.#reject = undefined
    this.#child.kill()
    rmSync(this.#directory, { recursive: true, force: true })
  }

  #receive(chunk: Buffer): void {
    this.#received.push(chunk)
    this.#receivedSize += chunk.length
    if (this.#receivedSize < OUTCOME_SIZE) return
    const whole = Buffer.concat(this.#received)
    this.#received = []
    this.#receivedSize = 0
    this.#resolve?.(whole)
  }
}

function parseLeaf(line: string): CpuidEntry {
  const [leaf = 0, index = 0, eax = 0, ebx = 0, ecx = 0, edx = 0] = line.split(' ').map(Number)
  return { function: leaf, index, eax, ebx, ecx, edx }
}

function encodeCase(code: CodeCase): Uint8Array {
  const bytes = new Uint8Array(CASE_SIZE)
  const view = new DataView(bytes.buffer)
  code.registers.forEach((value, i) => {
    view.setBigUint64(i * 8, value, true)
  })
  const words = [code.flags, Number(code.is32Bit), code.codeOffset, code.code.length, ...code.protection]
  words.forEach((value, i) => {
    view.setUint32(128 + i * 4, value, true)
  })
  bytes.set(code.code, 160)
  bytes.set(code.area, CASE_HEADER)
  bytes.set(code.data, CASE_HEADER + AREA_SIZE)
  return bytes
}

function decodeOutcome(bytes: Buffer): Outcome {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return {
    registers: Array.from({ length: 16 }, (_, i) => view.getBigUint64(i * 8, true)),
    rip: view.getBigUint64(128, true),
    cr2: view.getBigUint64(136, true),
    flags: view.getUint32(144, true),
    vector: view.getUint32(148, true),
    errorCode: view.getUint32(152, true),
    area: bytes.subarray(OUTCOME_HEADER, OUTCOME_HEADER + AREA_SIZE),
    data: bytes.subarray(OUTCOME_HEADER + AREA_SIZE),
  }
}
