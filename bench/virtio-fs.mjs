/**
 * A shared directory against QEMU's: the same bare-metal guest (guest/bare/programs/share-bench.c) reads one directory by virtio-fs
 * from example-vmm and by 9p from Debian's QEMU, in turn. It speaks FUSE to the one and 9P2000.L to the other, each in as few
 * messages as Linux's driver needs, and checks what it reads. (QEMU has no virtio-fs of its own: that takes virtiofsd beside it.)
 *
 * `node bench/virtio-fs.mjs [ROUNDS]` after `npm run build` prints the table.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildBareGuest } from '../guest/bare/build.mjs'
import { installTools } from '../scripts/tools.mjs'
import { inFolder } from './support/folder.mjs'
import { QEMU_TOOLS, runExampleVmm, runQemu, ticksPerSecond } from './support/guests.mjs'
import { jobWords, Rates, rateRow } from './support/rates.mjs'
import { printIfMain } from './support/report.mjs'

const PROGRAM = fileURLToPath(new URL('../guest/bare/programs/share-bench.c', import.meta.url))
const ROUNDS = 2
const SECONDS_PER_JOB = 0.05
/** How often a guest does each job, the first time uncounted. */
const REPEATS = 6
const BLOCK = 4096
const BLOCKS = 4096
const NAMES = 1000

/** What the guest is asked to do, and how the table has it. */
const JOBS = [
  { job: 'read,131072,1', name: 'sequential read, 128 KiB, depth 1' },
  { job: 'read,1048576,2', name: 'sequential read, 1 MiB, depth 2' },
  { job: 'randread,4096,1', name: 'random read, 4 KiB, depth 1' },
  { job: 'randread,4096,16', name: 'random read, 4 KiB, depth 16' },
  { job: 'getattr,1,1', name: 'stat of a known file' },
  { job: `lookup,${NAMES},1`, name: `stat of ${NAMES} names in turn` },
]
/** So many that all code is compiled. */
const WARM_UP = ['randread,4096,16,50000', 'getattr,1,1,20000', `lookup,${NAMES},1,20000`]

/** As share.h has it: each block begins with its number. */
function makeTree(path) {
  const data = Buffer.alloc(BLOCK * BLOCKS)
  for (let block = 0; block < BLOCKS; block += 1) data.writeBigUInt64LE(BigInt(block), block * BLOCK)
  mkdirSync(join(path, 'names'), { recursive: true })
  writeFileSync(join(path, 'data'), data)
  for (let i = 0; i < NAMES; i += 1) writeFileSync(join(path, `names/n${String(i).padStart(6, '0')}`), '')
}

const exampleArgs = (path) => ['--share', `tag=bench,path=${path}`]

const qemuArgs = (path) => [
  ...['-fsdev', `local,id=f,path=${path},security_model=none`],
  ...['-device', 'virtio-9p-device,fsdev=f,mount_tag=bench'],
]

/** The rows of the table. */
export async function run({ rounds = ROUNDS } = {}) {
  installTools(QEMU_TOOLS)
  const kernel = await buildBareGuest(PROGRAM)
  return await inFolder(async (folder) => {
    makeTree(folder)
    const tickRate = ticksPerSecond()
    const words = jobWords(JOBS, { ticks: tickRate * SECONDS_PER_JOB, repeats: REPEATS, warmUp: WARM_UP })
    const cmdline = `blocks=${BLOCKS} ${words}`
    const [own, peer] = [new Rates(tickRate), new Rates(tickRate)]
    for (let round = 0; round < rounds; round += 1) {
      own.add((await runExampleVmm({ kernel, cmdline, args: exampleArgs(folder) })).lines)
      peer.add(await runQemu({ kernel, cmdline, args: qemuArgs(folder) }))
    }
    return JOBS.map(({ job, name }) => rateRow(`virtio-fs, ${name}`, job, own, { 'QEMU, 9p': peer }))
  })
}

await printIfMain(import.meta, () => run({ rounds: Number(process.argv[2] ?? ROUNDS) }))
