/**
 * example-vmm as its users run it: the built binary, its exit status and what it printed.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Report } from '../../examples/example-vmm/src/report.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** The binary. */
export const EXAMPLE_VMM: string = join(root, 'examples', 'example-vmm', 'bin', 'example-vmm.cjs')
/** A file of the guest that the set-up builds. */
export const guestFile = (name: string): string => join(root, '.cache', 'guest', name)

/** How a run ended. */
export interface VmmResult {
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** A run under way. */
export interface VmmRun {
  readonly child: ChildProcess
  /** Resolves when stdout has contained the text; rejects where it ended without. */
  waitFor(text: string): Promise<void>
  readonly result: Promise<VmmResult>
}

/** How to run it. */
export interface VmmOptions {
  readonly stdin?: 'pipe' | 'ignore'
  /** As whom; default as whoever runs the tests. */
  readonly uid?: number
  /** Variables beside those of the tests. */
  readonly env?: Readonly<Record<string, string>>
}

/** Starts example-vmm. */
export function startVmm(args: readonly string[], options?: VmmOptions): VmmRun {
  return startNode([EXAMPLE_VMM, ...args], options)
}

/** Starts a program of Node's. stdin is a pipe where that is wanted, and empty otherwise. */
export function startNode(args: readonly string[], options: VmmOptions = {}): VmmRun {
  const child = spawn(process.execPath, args, {
    stdio: [options.stdin ?? 'ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
    ...(options.uid === undefined ? {} : { uid: options.uid }),
  })
  let stdout = ''
  let stderr = ''
  const watchers = new Set<() => void>()
  child.stdout?.on('data', (data: Buffer) => {
    stdout += data.toString('latin1')
    for (const watcher of watchers) watcher()
  })
  child.stderr?.on('data', (data: Buffer) => {
    stderr += data.toString()
  })
  const result = new Promise<VmmResult>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status, signal) => resolve({ status, signal, stdout, stderr }))
  })
  const waitFor = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (!stdout.includes(text)) return
        watchers.delete(look)
        resolve()
      }
      watchers.add(look)
      look()
      result.then(
        () => reject(new Error(`ended without ${JSON.stringify(text)}:\n${stdout}\n${stderr}`)),
        reject,
      )
    })
  return { child, waitFor, result }
}

/** Runs example-vmm to its end. */
export function runVmm(args: readonly string[], options?: VmmOptions): Promise<VmmResult> {
  return startVmm(args, options).result
}

/** Runs example-vmm with a report, and gives both. */
export async function runVmmWithReport(args: readonly string[]): Promise<VmmResult & { report: Report }> {
  const folder = mkdtempSync(join(tmpdir(), 'vmm-report-'))
  try {
    const path = join(folder, 'report.json')
    const result = await runVmm([...args, '--report', path])
    return { ...result, report: JSON.parse(readFileSync(path, 'utf8')) }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
