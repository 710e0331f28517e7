/**
 * Linux, saved and gone on with: how long a VM stands still to be saved, whole and by its difference, beside a plain write of as
 * many bytes; and many clones of it in one process: how fast they start, and what each weighs beside what its guest has written.
 */
import { execFile, spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { commandLine } from '../guest/cmdline.mjs'
import { median, printIfMain, row } from './support/report.mjs'

const EXAMPLE_VMM = fileURLToPath(new URL('../examples/example-vmm/bin/example-vmm.cjs', import.meta.url))
const CHILD = fileURLToPath(new URL('support/clones-child.mjs', import.meta.url))
const guest = (name) => fileURLToPath(new URL(`../.cache/guest/${name}`, import.meta.url))
const CLONES = 100
/** Beside one for each clone. */
const SPARE_THREADS = 8
const DIFFERENCES = 5
const RUN_MS = 500
/** Of the guest's shell. */
const PROMPT = '# '

/**
 * Boots Linux, and saves it: when it has come to user space, and again when its shell waits for somebody to type. Clones of that
 * one have nothing to do but to tell the time.
 * @returns what example-vmm says of the first
 */
async function save(folder, report) {
  const images = ['--kernel', guest('vmlinux'), '--initrd', guest('busybox.cpio'), '--memory', '64']
  const args = ['run', ...images, '--cmdline', commandLine(), '--snapshot', folder, '--report', report]
  const vmm = spawn(process.execPath, [EXAMPLE_VMM, ...args], { stdio: ['pipe', 'pipe', 'ignore'] })
  const ended = new Promise((resolve) => vmm.on('close', resolve))
  let output = ''
  vmm.stdout.on('data', (data) => {
    output += data
  })
  while (!output.includes(PROMPT)) await sleep(RUN_MS)
  await sleep(2 * RUN_MS)
  vmm.kill('SIGUSR2')
  await sleep(2 * RUN_MS)
  vmm.kill('SIGTERM')
  await ended
  return JSON.parse(readFileSync(report, 'utf8')).snapshots[0]
}

/** Goes on with it, and saves it again and again by SIGUSR2. @returns what example-vmm says of each */
async function saveDifferences(saved, folder, report) {
  const args = [EXAMPLE_VMM, 'restore', saved, '--snapshot', folder, '--report', report]
  const vmm = spawn(process.execPath, args, { stdio: 'ignore' })
  const ended = new Promise((resolve) => vmm.on('close', resolve))
  await sleep(2 * RUN_MS)
  for (let i = 0; i < DIFFERENCES; i++) {
    vmm.kill('SIGUSR2')
    await sleep(RUN_MS)
  }
  while (!existsSync(join(folder, 'manifest.json'))) await sleep(RUN_MS)
  vmm.kill('SIGTERM')
  await ended
  return JSON.parse(readFileSync(report, 'utf8')).snapshots
}

/** Milliseconds to write bytes to a new file and have them on the disk. */
function plainWrite(path, bytes) {
  const content = Buffer.alloc(bytes, 1)
  const start = performance.now()
  const fd = openSync(path, 'w')
  writeSync(fd, content)
  fsyncSync(fd)
  closeSync(fd)
  return performance.now() - start
}

export async function run() {
  const base = mkdtempSync(join(tmpdir(), 'vmm-bench-clones-'))
  const path = (name) => join(base, name)
  try {
    const full = await save(path('saved'), path('report.json'))
    const plain = plainWrite(path('plain'), full.memoryBytes)
    const differences = await saveDifferences(path('saved'), path('again'), path('report.json'))
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--expose-gc', CHILD, path('saved'), String(CLONES)],
      { env: { ...process.env, UV_THREADPOOL_SIZE: String(CLONES + SPARE_THREADS) } },
    )
    const clones = JSON.parse(stdout)
    const mib = (bytes) => (bytes / 2 ** 20).toFixed(1)
    const difference = median(differences.map(({ pauseMs }) => pauseMs))
    const bytes = median(differences.map(({ memoryBytes }) => memoryBytes))
    return [
      row({
        name: `Linux stands still to be saved, ${mib(full.memoryBytes)} MiB`,
        figure: full.pauseMs,
        unit: 'ms',
        peer: 'write(2) and fsync(2) of as much',
        peerFigure: plain,
      }),
      row({
        name: `Linux stands still for its difference, ${mib(bytes)} MiB`,
        figure: difference,
        unit: 'ms',
        peer: 'all of it',
        peerFigure: full.pauseMs,
      }),
      row({
        name: `Linux goes on, ${CLONES} clones in a process`,
        figure: clones.perSecond,
        unit: '/s',
        peer: 'KVM_CREATE_VM, made and closed',
        peerFigure: clones.floorPerSecond,
      }),
      row({
        name: 'memory of a clone over the pages its guest has written',
        figure: clones.overheadKib,
        unit: 'KiB',
        peer: 'a process with none',
        peerFigure: clones.processKib,
      }),
    ]
  } finally {
    rmSync(base, { recursive: true })
  }
}

await printIfMain(import.meta, run)
