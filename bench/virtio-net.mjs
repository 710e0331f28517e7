/**
 * virtio-net over a tap against QEMU: the same bare-metal guest (guest/bare/programs/net-bench.c) drives a network of
 * example-vmm and one of Debian's QEMU, in turn, each over a fresh tap. The host's side is the kernel alone: it answers
 * echo requests, counts and drops what goes out, and makes copies of what comes in.
 *
 * All of it happens in a network namespace of a process of its own, with which it goes away.
 *
 * `node bench/virtio-net.mjs [ROUNDS]` as root after `npm run build` prints the table.
 */
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { buildBareGuest } from '../guest/bare/build.mjs'
import { installTools } from '../scripts/tools.mjs'
import { QEMU_TOOLS, runExampleVmm, runQemu, ticksPerSecond } from './support/guests.mjs'
import { jobWords, Rates, rateRow } from './support/rates.mjs'
import { isMain, printIfMain } from './support/report.mjs'

const SELF = fileURLToPath(import.meta.url)
const PROGRAM = fileURLToPath(new URL('../guest/bare/programs/net-bench.c', import.meta.url))
const TOOLS = { '/sbin/ip': 'iproute2', '/sbin/tc': 'iproute2' }
/** The argument of the process that is in the namespace. */
const INSIDE = 'inside'
const ROUNDS = 3
const SECONDS_PER_JOB = 0.05
/** How often a guest does each job, the first time uncounted: many short times give a steadier median than a long one. */
const REPEATS = 6
/** So many that all code is compiled. */
const WARM_UP = ['ping,98,32,20000']

/** What the guest is asked to do: its words, and how the table has them. A request is a frame, or an echo and its reply. */
const JOBS = [
  { job: 'ping,98,1', name: 'ping, 98 bytes, one at a time' },
  { job: 'ping,98,32', name: 'ping, 98 bytes, 32 at a time' },
  { job: 'send,60,64', name: 'send, frames of 60 bytes' },
  { job: 'send,1514,64', name: 'send, frames of 1514 bytes' },
  { job: 'sendtso,65000,16', name: 'send, segments of 65000 bytes' },
  { job: 'receive,1514,8', name: 'receive, frames of 1514 bytes' },
]

// As in net-bench.c.
const TAP = 'tap0'
const HOST = { mac: '02:00:00:00:00:01', address: '10.1.0.1/24' }
const GUEST = { mac: '02:00:00:00:00:02', address: '10.1.0.2' }
const ETHERTYPE_COPIED = '0x88b6'
const COPIES = 16

const ip = (...args) => execFileSync('/sbin/ip', args, { encoding: 'utf8' })
const tc = (...args) => execFileSync('/sbin/tc', args)

function makeTap() {
  ip('tuntap', 'add', TAP, 'mode', 'tap')
  ip('link', 'set', TAP, 'address', HOST.mac)
  ip('address', 'add', HOST.address, 'dev', TAP)
  ip('neighbour', 'add', GUEST.address, 'lladdr', GUEST.mac, 'dev', TAP)
  ip('link', 'set', TAP, 'up')
  tc('qdisc', 'add', 'dev', TAP, 'ingress')
  const copy = ['action', 'mirred', 'egress', 'mirror', 'dev', TAP]
  const all = ['u32', 'match', 'u32', '0', '0', ...Array.from({ length: COPIES }, () => copy).flat()]
  tc('filter', 'add', 'dev', TAP, 'parent', 'ffff:', 'protocol', ETHERTYPE_COPIED, ...all)
}

const removeTap = () => ip('link', 'delete', TAP)

/** Frames that the kernel got from the guest. */
function framesFromGuest() {
  const [link] = JSON.parse(ip('-json', '-statistics', 'link', 'show', TAP))
  return link.stats64.rx.packets
}

/** Frames that the guest says it has sent and measured: there were more, while it warmed up. */
const framesSent = (lines) =>
  lines
    .map((line) => /^bench: (?:send|ping)\S+ requests (\d+)/.exec(line)?.[1] ?? 0)
    .reduce((sum, count) => sum + Number(count), 0)

/** Runs a guest over a tap of its own, and holds what it says against what the kernel has seen. */
async function overTap(run) {
  makeTap()
  try {
    const lines = await run()
    const [sent, seen] = [framesSent(lines), framesFromGuest()]
    if (seen < sent) throw new Error(`the guest has sent ${sent} frames, and the host got ${seen}`)
    return lines
  } finally {
    removeTap()
  }
}

const exampleArgs = ['--net', `tap=${TAP},mac=${GUEST.mac}`]
const qemuArgs = [
  ...['-netdev', `tap,id=n,ifname=${TAP},script=no,downscript=no,vhost=off`],
  ...['-device', `virtio-net-device,netdev=n,mac=${GUEST.mac}`],
]

async function measure(rounds) {
  const kernel = await buildBareGuest(PROGRAM)
  const tickRate = ticksPerSecond()
  const cmdline = jobWords(JOBS, { ticks: tickRate * SECONDS_PER_JOB, repeats: REPEATS, warmUp: WARM_UP })
  const own = new Rates(tickRate)
  const peer = new Rates(tickRate)
  for (let round = 0; round < rounds; round++) {
    own.add(await overTap(async () => (await runExampleVmm({ kernel, cmdline, args: exampleArgs })).lines))
    peer.add(await overTap(() => runQemu({ kernel, cmdline, args: qemuArgs })))
  }
  return JOBS.map(({ job, name }) => rateRow(`virtio-net, ${name}`, job, own, { QEMU: peer }))
}

/** The rows of the table; none, in so many words, where there is no right to make a tap. */
export async function run({ rounds = ROUNDS } = {}) {
  if (process.getuid?.() !== 0) {
    process.stderr.write('virtio-net.mjs makes taps, which takes root: left out\n')
    return []
  }
  installTools({ ...TOOLS, ...QEMU_TOOLS })
  const args = ['--net', process.execPath, SELF, String(rounds), INSIDE]
  return JSON.parse(execFileSync('unshare', args, { stdio: ['ignore', 'pipe', 'inherit'] }))
}

if (isMain(import.meta) && process.argv[3] === INSIDE) {
  process.stdout.write(JSON.stringify(await measure(Number(process.argv[2]))))
} else {
  await printIfMain(import.meta, () => run({ rounds: Number(process.argv[2] ?? ROUNDS) }))
}
