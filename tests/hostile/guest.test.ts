/**
 * A bare-metal guest that attacks all of its devices, on real KVM: guest/hostile. Short here; `npm run test:hostile` goes on with
 * one seed after the other, and VMM_HOSTILE_SEED=N begins at the one that failed.
 */
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildBareGuest } from '../../guest/bare/build.mjs'
import { runVmmWithReport } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { describeInNamespace, ip } from '../support/namespace.ts'

const ATTACK = join(import.meta.dirname, '../../guest/hostile/attack.c')
const MINUTES = Number(process.env['VMM_HOSTILE_MINUTES'] ?? 0)
const FIRST_SEED = Number(process.env['VMM_HOSTILE_SEED'] ?? Date.now() % 1_000_000)
const STEPS = MINUTES > 0 ? 1000 : 300
/** What a VMM may say of all that: a guest must not fill its host's log. */
const LINES_MAX = 20
const DISK_BYTES = 2 ** 20
const DISK_FILL = 0x5a
/** For a host that is busy: a guest that hangs ends, and fails. */
const TIMEOUT_SECONDS = 240

let folder: string
let kernel: string
let server: Server
const file = (name: string) => join(folder, name)

/** Everything in a folder, by name. */
function contents(path: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(path).map((name) => [name, readFileSync(join(path, name)).toString('latin1')]),
  )
}

/** Disks that are attacked: each engine, one of them with a rate limit. */
const DISKS = ['engine=io_uring', 'engine=threads', 'engine=sync,iops=500']
const disk = (index: number) => file(`disk${index}.img`)

/** The devices that need no rights: disks by all engines, one of them read-only, and one of each other kind. */
function devices(): string[] {
  return [
    ...DISKS.flatMap((options, i) => ['--disk', `path=${disk(i)},${options}`]),
    ...['--disk', `path=${file('beside/read-only.img')},readonly=on`],
    ...['--rng', '--balloon', 'reporting=on,stats=1'],
    ...['--vsock', `cid=3,uds=${file('vsock')}`],
    ...['--share', `tag=shared,path=${file('shared')}`],
    ...['--share', `tag=beside,path=${file('beside')},readonly=on`],
  ]
}

async function attack(seed: number, cpus: number, ...more: string[]): Promise<void> {
  const before = contents(file('beside'))
  const { status, signal, stdout, stderr, report } = await runVmmWithReport([
    ...['run', '--kernel', kernel, '--entry', 'pvh', '--memory', '64', '--cpus', String(cpus)],
    ...['--timeout', String(TIMEOUT_SECONDS), ...devices(), ...more],
    ...['--cmdline', `attack.seed=${seed} attack.steps=${STEPS}`],
  ])
  const what = `seed ${seed}, ${cpus} CPUs: ${stdout} ${stderr}`
  expect(signal, what).toBe(null)
  // No device is told to write to the attacker (arena.h): it lives to see the end, or a device wrote elsewhere.
  expect(stdout, what).toMatch(/^attack: done, devices \d+\r?\n$/)
  expect([status, report.reason], what).toEqual([0, 'the guest ended the VM with 0'])
  expect(stderr.split('\n').length, what).toBeLessThanOrEqual(LINES_MAX)
  // What was not attacked is as it was, and what was is as large.
  expect(contents(file('beside')), what).toEqual(before)
  for (const i of DISKS.keys()) expect(readFileSync(disk(i)).length, what).toBe(DISK_BYTES)
}

describeWithKvm('a guest that attacks its devices', () => {
  beforeAll(async () => {
    kernel = await buildBareGuest(ATTACK)
    folder = mkdtempSync(join(tmpdir(), 'vmm-hostile-'))
    mkdirSync(file('beside'))
    mkdirSync(file('shared'))
    const beside = ['read-only.img', 'neighbour.img'].map((name) => file(`beside/${name}`))
    for (const path of [...beside, ...[...DISKS.keys()].map(disk)]) {
      writeFileSync(path, new Uint8Array(DISK_BYTES).fill(DISK_FILL))
    }
    // What the guest dials, port 1024: it reads, and says what it has read.
    server = createServer((socket) => socket.on('error', () => {}).pipe(socket))
    await once(server.listen(`${file('vsock')}_1024`), 'listening')
  })
  afterAll(() => {
    server.close()
    rmSync(folder, { recursive: true })
  })

  for (const cpus of [1, 2]) {
    test(`does no harm to its host with ${cpus} CPUs (seed ${FIRST_SEED})`, async () => {
      await attack(FIRST_SEED, cpus)
    })
  }

  describeInNamespace('and a network', () => {
    test(`does no harm to its host by a tap (seed ${FIRST_SEED})`, async () => {
      ip('tuntap add dev vmhostile mode tap')
      ip('link set vmhostile up')
      await attack(FIRST_SEED, 2, '--net', 'tap=vmhostile,mac=02:00:00:00:00:01')
    })
  })

  test('gets through to its disks', () => {
    const wasWritten = (i: number) => readFileSync(disk(i)).some((byte) => byte !== DISK_FILL)
    // Which of them depends on the seed.
    expect([...DISKS.keys()].some(wasWritten)).toBe(true)
  })

  if (MINUTES > 0) {
    test(`does no harm to its host for ${MINUTES} minutes (first seed ${FIRST_SEED})`, {
      timeout: (MINUTES + 10) * 60_000,
    }, async () => {
      const end = Date.now() + MINUTES * 60_000
      let seed = FIRST_SEED
      for (; Date.now() < end; seed += 1) await attack(seed, 1 + (seed % 2))
      process.stdout.write(`attacked with the seeds ${FIRST_SEED} to ${seed - 1}\n`)
    })
  }
})
