/**
 * virtio-blk against QEMU: the same bare-metal guest (guest/bare/programs/blk-bench.c) drives a disk of example-vmm and
 * one of Debian's QEMU, on the same file, in turn. The guest polls for completions and checks what it reads.
 *
 * QEMU has an iothread and whichever of its engines is faster in a row: io_uring, threads, or Linux's native AIO.
 *
 * `node bench/virtio-blk.mjs [ROUNDS]` after `npm run build` prints the table.
 */
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildBareGuest } from '../guest/bare/build.mjs'
import { installTools } from '../scripts/tools.mjs'
import { inFolder } from './support/folder.mjs'
import { QEMU_TOOLS, runExampleVmm, runQemu, ticksPerSecond } from './support/guests.mjs'
import { jobWords, Rates, rateRow } from './support/rates.mjs'
import { printIfMain, row } from './support/report.mjs'

const PROGRAM = fileURLToPath(new URL('../guest/bare/programs/blk-bench.c', import.meta.url))
const ROUNDS = 2
const SECONDS_PER_JOB = 0.05
/** How often a guest does each job, the first time uncounted: many short times give a steadier median than a long one. */
const REPEATS = 6
const MIB = 2 ** 20
const BLOCK = 4096
const DISK_MIB = 64
const EXIT_REQUESTS = 1_000_000

/** What the guest is asked to do: its words, and how the table has them. */
const JOBS = [
  { job: 'randread,4096,1', name: 'random read, 4 KiB, depth 1' },
  { job: 'randread,4096,32', name: 'random read, 4 KiB, depth 32' },
  { job: 'randwrite,4096,1', name: 'random write, 4 KiB, depth 1' },
  { job: 'randwrite,4096,32', name: 'random write, 4 KiB, depth 32' },
  { job: 'read,1048576,4', name: 'sequential read, 1 MiB, depth 4' },
  { job: 'write,1048576,4', name: 'sequential write, 1 MiB, depth 4' },
]

/** How the file is opened, and as many requests of both kinds before as it takes until all code is compiled. */
const MODES = [
  {
    name: 'cached',
    disk: '',
    cache: 'writeback',
    engines: ['io_uring', 'threads'],
    warmUp: ['randread,4096,32,300000', 'randwrite,4096,32,50000', 'randread,4096,1,100000'],
  },
  {
    name: 'O_DIRECT',
    disk: ',direct=on',
    cache: 'none',
    engines: ['io_uring', 'native'],
    warmUp: ['randread,4096,32,20000', 'randwrite,4096,32,5000', 'randread,4096,1,5000'],
  },
]

const exampleArgs = (mode, file) => ['--disk', `path=${file}${mode.disk}`]

const qemuArgs = (mode, engine, file) => [
  ...['-drive', `id=d,file=${file},format=raw,if=none,cache=${mode.cache},aio=${engine}`],
  ...['-object', 'iothread,id=io0', '-device', 'virtio-blk-device,drive=d,iothread=io0'],
]

/** A disk as the guest wants it: each block begins with its number. In the page cache, and on the medium. */
function makeDisk(file) {
  const fd = openSync(file, 'w')
  const piece = Buffer.alloc(MIB)
  for (let mib = 0; mib < DISK_MIB; mib++) {
    for (let at = 0; at < MIB; at += BLOCK) piece.writeBigUInt64LE(BigInt((mib * MIB + at) / BLOCK), at)
    writeSync(fd, piece)
  }
  fsyncSync(fd)
  closeSync(fd)
}

/** Into the page cache: whatever the host's memory is short of, it starts the same for all. */
function readWhole(file) {
  readFileSync(file)
}

/** The rows of a mode. */
async function measure(mode, { kernel, file, rounds }) {
  const tickRate = ticksPerSecond()
  const cmdline = jobWords(JOBS, { ticks: tickRate * SECONDS_PER_JOB, repeats: REPEATS, warmUp: mode.warmUp })
  const own = new Rates(tickRate)
  const peers = Object.fromEntries(mode.engines.map((engine) => [`QEMU, ${engine}`, new Rates(tickRate)]))
  for (let round = 0; round < rounds; round++) {
    readWhole(file)
    own.add((await runExampleVmm({ kernel, cmdline, args: exampleArgs(mode, file) })).lines)
    for (const engine of mode.engines) {
      readWhole(file)
      peers[`QEMU, ${engine}`].add(await runQemu({ kernel, cmdline, args: qemuArgs(mode, engine, file) }))
    }
  }
  return JOBS.map(({ job, name }) => rateRow(`virtio-blk ${mode.name}, ${name}`, job, own, peers))
}

/** All exits to user space, of all kinds. */
async function countExits({ kernel, file, requests }) {
  const cmdline = `job=randread,4096,32,${requests}`
  const { exits } = await runExampleVmm({ kernel, cmdline, args: exampleArgs(MODES[0], file) })
  return Object.values(exits).reduce((sum, count) => sum + count, 0)
}

/** Exits that a million requests take, over what the guest needs for a few: to start, to print, to end. */
async function exitRow(guest) {
  const few = await countExits({ ...guest, requests: 32 })
  const many = await countExits({ ...guest, requests: EXIT_REQUESTS })
  return row({
    name: 'virtio-blk, exits to user space in 1,000,000 requests',
    figure: Math.max(0, many - few),
    unit: 'exits',
    peer: 'set-up and console',
    peerFigure: few,
  })
}

/** The rows of the table. */
export async function run({ rounds = ROUNDS } = {}) {
  installTools(QEMU_TOOLS)
  const kernel = await buildBareGuest(PROGRAM)
  return await inFolder(async (folder) => {
    const file = join(folder, 'disk.img')
    makeDisk(file)
    const rows = []
    for (const mode of MODES) rows.push(...(await measure(mode, { kernel, file, rounds })))
    rows.push(await exitRow({ kernel, file }))
    return rows
  })
}

await printIfMain(import.meta, () => run({ rounds: Number(process.argv[2] ?? ROUNDS) }))
