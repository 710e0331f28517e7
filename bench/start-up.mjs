/**
 * Starting a VM: from the start of the process to the first KVM_RUN, over a bare `node -e 0`; and the memory that the
 * VMM takes beside the guest's. The guest is the lean Linux of this repository with 64 MiB.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { median, printIfMain, row } from './support/report.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const vmm = join(root, 'examples/example-vmm/bin/example-vmm.cjs')
const guest = (name) => join(root, '.cache/guest', name)
const ROUNDS = 15
const SETTLE_MS = 200
const MIB = 2 ** 20
const STATUS_TIMEOUT = 4

/** Milliseconds of a bare Node.js, from its start to its end, as its parent sees it. */
function nodeAlone() {
  const start = performance.now()
  execFileSync(process.execPath, ['-e', '0'])
  return performance.now() - start
}

/** The VMM's report of the first `seconds` of a boot. */
function boot(folder, seconds) {
  const path = join(folder, 'report.json')
  const images = ['--kernel', guest('vmlinux'), '--initrd', guest('initramfs.cpio')]
  const limits = ['--memory', '64', '--timeout', String(seconds), '--report', path]
  try {
    execFileSync(process.execPath, [vmm, 'run', ...images, ...limits], { stdio: 'ignore' })
  } catch (error) {
    if (error.status !== STATUS_TIMEOUT) throw error
  }
  return JSON.parse(readFileSync(path, 'utf8'))
}

/** Resident memory of a bare Node.js, in MiB. */
function nodeMemory() {
  return Number(execFileSync(process.execPath, ['-p', 'process.memoryUsage.rss()'])) / MIB
}

/** The rows of the table. */
export async function run() {
  const folder = mkdtempSync(join(tmpdir(), 'vmm-bench-'))
  try {
    const bare = []
    const runs = []
    for (let round = 0; round < ROUNDS; round++) {
      // The host takes a VM apart in the background: let it, so that it is not measured here.
      await sleep(SETTLE_MS)
      bare.push(nodeAlone())
      runs.push(boot(folder, 0.01).times.firstRun)
    }
    const floor = median(bare)
    const time = median(runs)
    const { rssKib, guestRssKib } = boot(folder, 3).memory
    const memory = (rssKib - guestRssKib) / 1024
    const nodeRss = nodeMemory()
    return [
      row({
        name: 'process start to first KVM_RUN',
        figure: time,
        unit: 'ms',
        peer: 'node -e 0',
        peerFigure: floor,
      }),
      row({
        name: 'RSS beside guest memory',
        figure: memory,
        unit: 'MiB',
        peer: 'node',
        peerFigure: nodeRss,
      }),
    ]
  } finally {
    rmSync(folder, { recursive: true })
  }
}

await printIfMain(import.meta, run)
