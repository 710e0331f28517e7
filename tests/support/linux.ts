/**
 * The test guest's Linux with a shell: commands in, what they printed out. tests/linux/ is made of these.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Report } from '../../examples/example-vmm/src/report.ts'
import { commandLine } from '../../guest/cmdline.mjs'
import { guestFile, runVmm, startVmm, type VmmRun } from './example-vmm.ts'
import { savedLinux } from './saved-linux.ts'

/** The last command of a shell session: the guest ends the VM. */
const POWEROFF = 'poweroff'

/** What a guest is run with. */
export interface LinuxOptions {
  /** Options of `example-vmm run`: `['--disk', 'path=…']`. */
  readonly devices?: readonly string[]
  /** More words for the kernel's command line. */
  readonly words?: readonly string[]
  /** In MiB; default 64. */
  readonly memory?: number
  /** Default 1. */
  readonly cpus?: number
  /**
   * `busybox.cpio`, a shell; `programs.cpio` has the programs of guest/programs besides; none for a root disk. Default
   * `busybox.cpio`.
   */
  readonly initrd?: 'busybox.cpio' | 'programs.cpio' | undefined
  /**
   * What the devices are, in words: the guest does not boot then, but `example-vmm restore` goes on from where one with the same
   * devices has come to its init. Disks may have other contents than then.
   */
  readonly shape?: string
}

/** For a guest that hangs. */
const TIMEOUT = ['--timeout', '240'] as const

/** The arguments of example-vmm for such a guest to boot. */
export function linuxArguments(options: Omit<LinuxOptions, 'shape'> = {}): string[] {
  const { devices = [], words = [], memory = 64, cpus = 1 } = options
  const initrd = 'initrd' in options ? options.initrd : 'busybox.cpio'
  return [
    'run',
    ...['--kernel', guestFile('vmlinux'), '--memory', String(memory), '--cpus', String(cpus)],
    ...(initrd === undefined ? [] : ['--initrd', guestFile(initrd)]),
    ...['--cmdline', commandLine(...words), ...TIMEOUT, ...devices],
  ]
}

/** Starts a guest whose shell reads what is written to `child.stdin`. */
export async function startLinux(options: LinuxOptions = {}, ...more: readonly string[]): Promise<VmmRun> {
  const { shape, ...booted } = options
  const { devices = [], ...rest } = booted
  if (shape === undefined) return startVmm([...linuxArguments(booted), ...more], { stdin: 'pipe' })
  const folder = await savedLinux({ command: shape, ...rest }, async (folder) => {
    const saved = await runVmm([...linuxArguments(booted), '--snapshot', folder, '--then', 'exit'])
    expect(saved).toMatchObject({ status: 0, stderr: '' })
  })
  return startVmm(['restore', folder, ...TIMEOUT, ...devices, ...more], { stdin: 'pipe' })
}

/** How a guest's session went. */
export interface LinuxSession {
  /** What it printed, without carriage returns. */
  readonly output: string
  readonly report: Report
}

/** Runs shell commands in a guest, to its end; fails where that is not a clean one. */
export async function runLinux(commands: readonly string[], options?: LinuxOptions): Promise<LinuxSession> {
  const folder = mkdtempSync(join(tmpdir(), 'vmm-linux-'))
  try {
    const path = join(folder, 'report.json')
    const vmm = await startLinux(options, '--report', path)
    vmm.child.stdin?.end(`${[...commands, POWEROFF].join('\n')}\n`)
    const { status, stdout, stderr } = await vmm.result
    expect(stderr).toBe('')
    expect(status, stdout).toBe(0)
    return { output: stdout.replaceAll('\r', ''), report: JSON.parse(readFileSync(path, 'utf8')) }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
