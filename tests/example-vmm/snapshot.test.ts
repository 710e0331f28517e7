/**
 * VMs that example-vmm saves, and goes on with: once, again, and several at a time.
 */
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { BOOT_MARKER, BOOT_TIMER_PORT, EXIT_PORT } from '@vmm/devices'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { kernelImage } from '../support/elf.ts'
import { runVmm, runVmmWithReport, startVmm } from '../support/example-vmm.ts'
import { outByte, print, SPIN } from '../support/guest-code.ts'
import { describeWithKvm } from '../support/kvm.ts'

const DISK_SIZE = 2 ** 16
const MARK = print(String.fromCharCode(BOOT_MARKER), BOOT_TIMER_PORT)

let folder: string
const file = (name: string) => join(folder, name)

/** A guest that says it has booted between two lines. */
function run(after: readonly number[] = outByte(EXIT_PORT, 0), ...more: string[]): string[] {
  writeFileSync(file('guest'), kernelImage([...print('before\n'), ...MARK, ...print('after\n'), ...after]))
  return ['run', '--kernel', file('guest'), '--memory', '32', ...more]
}

/** Until a process waits in openat(2) or open(2). */
async function untilItOpens(pid: number | undefined): Promise<void> {
  const call = () => readFileSync(`/proc/${pid}/syscall`, 'latin1')
  for (let before = ''; ; before = call()) {
    await sleep(50)
    if (/^(?:2|257) /.test(before) && call() === before) return
  }
}

async function untilThere(path: string): Promise<void> {
  while (!existsSync(path)) await sleep(20)
}

describeWithKvm('example-vmm saves a VM', () => {
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-saves-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  test('at the boot marker, and ends there; another goes on behind it', async () => {
    const saved = await runVmmWithReport([...run(), '--snapshot', file('saved'), '--then', 'exit'])
    expect(saved).toMatchObject({ status: 0, stdout: 'before\n', stderr: '' })
    expect(saved.report).toMatchObject({ vms: 1, reason: 'saved', snapshots: [{ kind: 'full' }] })
    const [snapshot] = saved.report.snapshots
    expect(snapshot?.pauseMs).toBeGreaterThan(0)
    expect(snapshot?.totalMs).toBeGreaterThanOrEqual(snapshot?.pauseMs ?? 0)
    for (let time = 0; time < 2; time++) {
      const restored = await runVmmWithReport(['restore', file('saved')])
      expect(restored).toMatchObject({ status: 0, stdout: 'after\n', stderr: '' })
      expect(restored.report.times).toMatchObject({ bootMarker: null, firstRun: expect.any(Number) })
    }
  })

  test('and goes on', async () => {
    const saved = await runVmm([...run(), '--snapshot', file('saved')])
    expect(saved).toMatchObject({ status: 0, stdout: 'before\nafter\n', stderr: '' })
    expect((await runVmm(['restore', file('saved')])).stdout).toBe('after\n')
  })

  test('at SIGUSR2, as often as it comes, and just the difference of one that was restored', async () => {
    const [first, second] = [file('first'), file('second')]
    await runVmm([...run(SPIN), '--snapshot', first, '--then', 'exit'])
    const report = file('report.json')
    const vmm = startVmm(['restore', first, '--snapshot', second, '--report', report])
    await vmm.waitFor('after')
    const manifest = join(second, 'manifest.json')
    vmm.child.kill('SIGUSR2')
    await untilThere(manifest)
    const { ino } = statSync(manifest)
    vmm.child.kill('SIGUSR2')
    while (statSync(manifest).ino === ino) await sleep(20)
    vmm.child.kill('SIGTERM')
    await vmm.result
    const { snapshots } = JSON.parse(readFileSync(report, 'utf8'))
    expect(snapshots).toMatchObject([{ kind: 'differential' }, { kind: 'differential' }])
    // The second is behind both lines, the first is as it was.
    rmSync(first, { recursive: true })
    const restored = await runVmm(['restore', second, '--timeout', '0.3'])
    expect(restored).toMatchObject({ status: 4, stdout: '' })
  })

  test('and not at a SIGUSR2 that comes before there is one', async () => {
    // It waits there for a reader before it makes a VM.
    const report = file('report')
    execFileSync('mkfifo', [report])
    const vmm = startVmm([...run(), '--snapshot', file('saved'), '--report', report])
    await untilItOpens(vmm.child.pid)
    vmm.child.kill('SIGUSR2')
    const reader = openSync(report, 'r+')
    const end = await vmm.result
    closeSync(reader)
    expect(end).toMatchObject({ status: 0, stdout: 'before\nafter\n', stderr: '' })
  })

  test('and several of it run at once, each with its number before its lines', async () => {
    const after = [...print('unfinished'), ...outByte(EXIT_PORT, 0)]
    await runVmm([...run(after), '--snapshot', file('saved'), '--then', 'exit'])
    const clones = 5
    const { status, stdout, stderr, report } = await runVmmWithReport([
      'restore',
      file('saved'),
      '--clones',
      String(clones),
    ])
    expect(stderr).toBe('')
    expect(stdout.split('\n').sort()).toEqual([
      '',
      ...Array.from({ length: clones }, (_, n) => [`[${n}] after`, `[${n}] unfinished`]).flat(),
    ])
    expect(status).toBe(0)
    expect(report.vms).toBe(clones)
  })

  test('and several end with 1 where nobody reads their output any more', async () => {
    const line = print('line\n')
    const lines = [...line, 0xeb, 0x100 - line.length - 2]
    await runVmm([...run(lines), '--snapshot', file('saved'), '--then', 'exit'])
    const vmm = startVmm(['restore', file('saved'), '--clones', '2'])
    await vmm.waitFor('[1] line')
    vmm.child.stdout?.destroy()
    const { status, stderr } = await vmm.result
    expect(stderr).toMatch(/^example-vmm: stdout: [^\n]*EPIPE\n$/)
    expect(status).toBe(1)
  })

  test('and none of several runs where there are not threads for all', async () => {
    await runVmm([...run(SPIN), '--snapshot', file('saved'), '--then', 'exit'])
    const args = ['restore', file('saved'), '--clones', '4']
    const { status, stderr } = await runVmm(args, { env: { UV_THREADPOOL_SIZE: '4' } })
    expect(stderr).toMatch(/^example-vmm: the VM cannot run: no threads for 1 vCPU[^\n]*\n$/)
    expect(status).toBe(2)
  })

  test('with its disk, or another of the same size, each clone with its own', async () => {
    for (const name of ['disk', 'disk-0', 'disk-1']) writeFileSync(file(name), Buffer.alloc(DISK_SIZE))
    const saved = file('saved')
    const disk = (name: string) => ['--disk', `path=${file(name)}`]
    await runVmm([...run(undefined, ...disk('disk')), '--snapshot', saved, '--then', 'exit'])
    expect(await runVmm(['restore', saved])).toMatchObject({ status: 0, stdout: 'after\n' })
    rmSync(file('disk'))
    const gone = await runVmm(['restore', saved])
    expect(gone).toMatchObject({ status: 2, stdout: '' })
    expect(gone.stderr).toMatch(/^example-vmm: [^\n]*disk[^\n]*\n$/)
    const clones = await runVmm(['restore', saved, '--clones', '2', ...disk('disk-{n}')])
    expect(clones).toMatchObject({ status: 0, stderr: '' })
    const locked = await runVmm(['restore', saved, '--clones', '2', ...disk('disk-0')])
    expect(locked).toMatchObject({ status: 2, stdout: '' })
    expect(locked.stderr).toMatch(/^example-vmm: [^\n]*disk-0[^\n]*\n$/)
  })

  test('or says in a sentence why not, and loses nothing', async () => {
    writeFileSync(file('taken'), '')
    const goesOn = await runVmm([...run(), '--snapshot', file('taken')])
    expect(goesOn).toMatchObject({ status: 0, stdout: 'before\nafter\n' })
    expect(goesOn.stderr).toMatch(/^example-vmm: [^\n]*taken: the snapshot cannot be written: [^\n]*\r\n$/)
    const ends = await runVmm([...run(), '--snapshot', file('taken'), '--then', 'exit'])
    expect(ends.status).toBe(1)
    expect(ends.stderr).toMatch(/^example-vmm: [^\n]*taken: the snapshot cannot be written: [^\n]*\n$/)
    expect(readFileSync(file('taken'), 'utf8')).toBe('')
  })

  test('from what is no snapshot of its own, or with what does not fit, is one sentence', async () => {
    const saved = file('saved')
    await runVmm([...run(), '--snapshot', saved, '--then', 'exit'])
    for (const [args, complaint] of [
      [['restore', file('nowhere')], /nowhere: there is no manifest.json/],
      [['restore'], /missing required argument 'folder'/],
      [['restore', saved, '--clones', '0'], /--clones/],
      [['restore', saved, '--disk', 'path=/dev/null'], /--disk: the saved VM has 0 of them, not 1/],
      [['restore', saved, '--rng'], /--rng: the saved VM has none/],
      [['restore', saved, '--memory', '64'], /unknown option '--memory'/],
      [['restore', saved, '--then', 'exit'], /--then: there is no --snapshot/],
      [['restore', saved, '--clones', '2', '--snapshot', file('more')], /a folder each: have \{n\}/],
    ] as const) {
      const { status, stdout, stderr } = await runVmm(args)
      expect(stderr).toMatch(new RegExp(`^example-vmm: [^\\n]*${complaint.source}[^\\n]*\\n$`))
      expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    }
    const path = join(saved, 'manifest.json')
    writeFileSync(path, readFileSync(path, 'utf8').replace('created', 'creates'))
    const { status, stderr } = await runVmm(['restore', saved])
    expect(stderr).toMatch(/^example-vmm: [^\n]*not as it was written\n$/)
    expect(status).toBe(2)
  })
})
