/**
 * virtio-vsock under guests: a bare-metal one at CPL 3 (guest/bare/programs/vsock-bench.c) and Linux (guest/programs/vsock.c), each
 * over example-vmm and its Unix sockets to a server in this process. The floor is another process of Node's that does the same
 * with that server over a Unix socket, without a guest between.
 *
 * The host's kernel may have no vsock of its own, so that there is no other VMM's to compare with.
 *
 * `node bench/virtio-vsock.mjs` after `npm run build` prints the table.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { buildBareGuest } from '../guest/bare/build.mjs'
import { buildGuest } from '../guest/build.mjs'
import { commandLine } from '../guest/cmdline.mjs'
import { runExampleVmm, ticksPerSecond } from './support/guests.mjs'
import { jobWords, Rates, rateRow } from './support/rates.mjs'
import { isMain, printIfMain, row } from './support/report.mjs'

const SELF = fileURLToPath(import.meta.url)
const EXAMPLE_VMM = fileURLToPath(new URL('../examples/example-vmm/bin/example-vmm.cjs', import.meta.url))
const PROGRAM = fileURLToPath(new URL('../guest/bare/programs/vsock-bench.c', import.meta.url))
/** The argument of the process that is the floor. */
const FLOOR = 'floor'
const ROUNDS = 2
const SECONDS_PER_JOB = 0.1
/** How often each job is done, the first time uncounted. */
const REPEATS = 5
const NS_PER_SECOND = 1e9
/** As in vsock-bench.c. */
const PORT = 5000
const CHUNK = 65536
const MESSAGE = 64

/** What is asked for, and how the table has it. `bytes` where a request is a piece of a stream. */
const JOBS = [
  { job: `send,${CHUNK},16`, name: 'stream to the host', bytes: CHUNK },
  { job: `receive,${CHUNK},1`, name: 'stream to the guest', bytes: CHUNK },
  { job: `ping,${MESSAGE},1`, name: 'message of 64 bytes and its echo' },
]
const WARM_UP = [`send,${CHUNK},16,500`, `receive,${CHUNK},1,500`, `ping,${MESSAGE},1,2000`]

/** So little that a kernel that is interpreted is done in seconds. */
const LINUX_BYTES = 2 ** 20
const LINUX_PINGS = 50

/** Does what the first byte of a connection says, and notes how long it took: from its first byte of data to its last. */
class Server {
  /** What connections came to, by their letter: nanoseconds, and bytes that came. @type {Map<string, { ns: number, bytes: number }>} */
  last = new Map()
  #server

  constructor(path) {
    this.#server = net.createServer({ allowHalfOpen: true }, (socket) => this.#take(socket)).listen(path)
  }

  close() {
    this.#server.close()
  }

  #take(socket) {
    let letter = ''
    let bytes = 0
    let first = 0n
    let last = 0n
    socket.on('error', () => {})
    socket.on('data', (data) => {
      const payload = letter === '' ? data.subarray(1) : data
      if (letter === '') {
        letter = String.fromCharCode(data[0])
        if (letter === 'r') pump(socket)
      }
      if (payload.length === 0) return
      last = process.hrtime.bigint()
      if (first === 0n) first = last
      bytes += payload.length
      if (letter === 'p') socket.write(payload)
    })
    socket.on('end', () => {
      this.last.set(letter, { ns: Number(last - first), bytes })
      socket.end()
    })
  }
}

/** Writes for as long as somebody reads. */
function pump(socket) {
  const chunk = Buffer.alloc(CHUNK)
  const push = () => {
    while (socket.writable && socket.write(chunk));
  }
  socket.on('drain', push)
  push()
}

// --- The floor: in a process of its own ---

const FLOOR_JOBS = {
  async send(socket, bytes, isOver) {
    const chunk = Buffer.alloc(bytes)
    let count = 0
    for (; !isOver(count); count += 1) if (!socket.write(chunk)) await once(socket, 'drain')
    if (socket.writableNeedDrain) await once(socket, 'drain')
    return count
  },
  async receive(socket, bytes, isOver) {
    let got = 0
    await new Promise((resolve) => {
      socket.on('data', (data) => {
        got += data.length
        if (isOver(got / bytes)) resolve()
      })
    })
    return Math.floor(got / bytes)
  },
  async ping(socket, bytes, isOver) {
    const message = Buffer.alloc(bytes)
    let count = 0
    let missing = bytes
    await new Promise((resolve) => {
      socket.on('data', (data) => {
        missing -= data.length
        if (missing > 0) return
        count += 1
        missing = bytes
        if (isOver(count)) resolve()
        else socket.write(message)
      })
      socket.write(message)
    })
    return count
  },
}

/** Does the jobs as the guest does, and says so in the same words. */
async function floor(path, words) {
  const jobs = words.split(' ').filter((word) => word.startsWith('job='))
  const ticks = Number(/ticks=(\d+)/.exec(words)?.[1])
  for (const job of jobs.map((word) => word.slice('job='.length))) {
    const [name, bytes, , requests] = job.split(',')
    const socket = net.createConnection(path)
    await once(socket, 'connect')
    socket.setNoDelay(true)
    socket.write(name[0])
    const start = process.hrtime.bigint()
    const spent = () => Number(process.hrtime.bigint() - start)
    const isOver = (count) => (requests === undefined ? spent() >= ticks : count >= Number(requests))
    const count = await FLOOR_JOBS[name](socket, Number(bytes), isOver)
    console.log(`bench: ${job} requests ${count} ticks ${spent()}`)
    socket.destroy()
  }
}

async function runFloor(path) {
  const ticks = SECONDS_PER_JOB * NS_PER_SECOND
  const words = jobWords(JOBS, { ticks, repeats: REPEATS, warmUp: WARM_UP })
  const { stdout } = await promisify(execFile)(process.execPath, [SELF, FLOOR, path, words])
  return stdout.trim().split('\n')
}

// --- Linux ---

/** Runs commands in a guest's shell, to its end. */
async function runLinux(commands, args) {
  const { vmlinux, programs } = await buildGuest()
  const child = spawn(
    process.execPath,
    [
      ...[EXAMPLE_VMM, 'run', '--kernel', vmlinux, '--initrd', programs, '--memory', '64'],
      ...['--cmdline', commandLine(), '--timeout', '240', ...args],
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  let output = ''
  child.stdout.on('data', (data) => {
    output += data
  })
  child.stdin.end(`${[...commands, 'poweroff'].join('\n')}\n`)
  const [status] = await once(child, 'close')
  if (status !== 0) throw new Error(`the guest ended with ${status}:\n${output}`)
  return output
}

/** What Linux did in one session, by letter. */
async function measureLinux(server, args) {
  server.last.clear()
  const output = await runLinux(
    [
      `vsock send ${PORT} ${LINUX_BYTES}`,
      `vsock receive ${PORT} ${LINUX_BYTES}`,
      `vsock ping ${PORT} ${LINUX_PINGS} ${MESSAGE}`,
    ],
    args,
  )
  const [, received, us] = /vsock: received (\d+) bytes in (\d+) us/.exec(output) ?? []
  const [sent, pinged] = [server.last.get('s'), server.last.get('p')]
  if (sent?.bytes !== LINUX_BYTES || pinged?.bytes !== LINUX_PINGS * MESSAGE || !(received >= LINUX_BYTES))
    throw new Error(`not all has come:\n${output}`)
  return [
    (sent.bytes / CHUNK / sent.ns) * NS_PER_SECOND,
    Number(received) / CHUNK / (Number(us) / 1e6),
    ((LINUX_PINGS - 1) / pinged.ns) * NS_PER_SECOND,
  ]
}

// --- The table ---

/** Pieces of a stream as megabytes; messages as they are. */
function inUnits(entry, { bytes }) {
  const factor = bytes === undefined ? 1 : bytes / 1e6
  const unit = bytes === undefined ? 'messages/s' : 'MB/s'
  return { ...entry, figure: entry.figure * factor, unit, peerFigure: entry.peerFigure * factor }
}

export async function run({ rounds = ROUNDS } = {}) {
  const kernel = await buildBareGuest(PROGRAM)
  const folder = mkdtempSync(join(tmpdir(), 'vmm-bench-'))
  const path = join(folder, 'v')
  const server = new Server(`${path}_${PORT}`)
  const args = ['--vsock', `cid=3,uds=${path}`]
  try {
    const tickRate = ticksPerSecond()
    const cmdline = jobWords(JOBS, { ticks: tickRate * SECONDS_PER_JOB, repeats: REPEATS, warmUp: WARM_UP })
    const [own, peer] = [new Rates(tickRate), new Rates(NS_PER_SECOND)]
    for (let round = 0; round < rounds; round += 1) {
      own.add((await runExampleVmm({ kernel, cmdline, args })).lines)
      peer.add(await runFloor(`${path}_${PORT}`))
    }
    const bare = JOBS.map((job) =>
      inUnits(
        rateRow(`virtio-vsock, ${job.name}`, job.job, own, { 'Unix socket, two processes': peer }),
        job,
      ),
    )
    const linux = await measureLinux(server, args)
    return [
      ...bare,
      ...JOBS.map((job, i) =>
        inUnits(
          row({
            name: `virtio-vsock of Linux, ${job.name}`,
            figure: linux[i],
            unit: '',
            peer: 'Unix socket, two processes',
            peerFigure: bare[i].peerFigure / (job.bytes === undefined ? 1 : job.bytes / 1e6),
          }),
          job,
        ),
      ),
    ]
  } finally {
    server.close()
    rmSync(folder, { recursive: true })
  }
}

if (isMain(import.meta) && process.argv[2] === FLOOR) await floor(process.argv[3], process.argv[4])
else await printIfMain(import.meta, run)
