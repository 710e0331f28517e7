/**
 * A program with many VMs in one process, to be run in a process of its own: what it prints is for tests/kvm/many-vms.test.ts.
 *
 *   many-vms hundreds FOLDER   VMs of all kinds at once, of which some die
 *   many-vms rounds FOLDER     some tens at once, again and again: what is left of them
 *   many-vms limit FOLDER      VMs until the threads are used up
 */
import { lookup } from 'node:dns/promises'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { openDisk } from '@vmm/block'
import { EXIT_PORT } from '@vmm/devices'
import { Balloon, Blk, BufferDisk, Rng } from '@vmm/devices/virtio'
import { type AttachDevice, MicroVm, type MicroVmEnd } from '@vmm/microvm'
import { kernelImage } from './elf.ts'
import { HALT, jumpTo, outByte, print, SPIN, TRIPLE_FAULT } from './guest-code.ts'
import { ringDoorbell } from './ring-doorbell.ts'

const MIB = 2 ** 20
const MEMORY = 4 * MIB
const LOAD_ADDRESS = 2 * MIB
/** For a queue. */
const RING = 3 * MIB
/** Where a guest has neither memory nor a device. */
const NOWHERE = 0xe000_0000
/** A port of this program: reads 0 until the guest shall go on, and takes what it says then. */
const GO_PORT = 0x500

/** mov $GO_PORT, %dx; 1: in %dx, %al; test %al, %al; jz 1b; out %al, %dx */
const WAIT_FOR_GO = [0x66, 0xba, GO_PORT & 0xff, GO_PORT >> 8, 0xec, 0x84, 0xc0, 0x74, 0xfb, 0xee]

/** Throws when its doorbell is rung, after the look that it takes at the start. */
class BrokenDevice extends Rng {
  #looks = 0

  override notify(): void {
    if (++this.#looks > 1) throw new Error('a device that is broken')
  }
}

/** What guests do. */
const PROGRAMS = {
  halts: HALT,
  prints: [...print('hello\n'), ...outByte(EXIT_PORT, 3)],
  'triple-faults': TRIPLE_FAULT,
  'executes-nothing': jumpTo(NOWHERE),
  'breaks-a-device': [0x66, 0xba, (GO_PORT + 4) & 0xff, GO_PORT >> 8, 0xec, ...HALT],
  'breaks-a-queue': [...ringDoorbell(RING), ...HALT],
  waits: [...WAIT_FOR_GO, ...HALT],
  spins: SPIN,
} as const

/** VMs of each of the rounds that show what they leave. */
const ROUND = 40
const ROUNDS = 5
const SERIES_MAX = 8
/** What memory may grow by for each VM that has come and gone, in bytes. One that stays has 100 KiB. */
const GROWTH_MAX = 16_384

type Program = keyof typeof PROGRAMS

setFlagsFromString('--expose-gc')
const gc: () => void = runInNewContext('gc')

const folder = process.argv[3] ?? '.'

function kernelOf(program: Program): string {
  const path = join(folder, program)
  writeFileSync(path, kernelImage(PROGRAMS[program], LOAD_ADDRESS))
  return path
}

/** A VM that runs. */
interface Running {
  readonly program: Program
  readonly vm: MicroVm
  readonly ended: Promise<MicroVmEnd>
  readonly output: () => string
  end?: MicroVmEnd
  go: boolean
  said: boolean
}

function devicesOf(program: Program, index: number): AttachDevice[] {
  const isFile = index % 8 === 0
  const disk = isFile
    ? openDisk(join(folder, 'disk'), { readOnly: true })
    : new BufferDisk(new Uint8Array(4096))
  return [
    (host) => host.virtio.attach(program === 'breaks-a-queue' ? new BrokenDevice() : new Rng()),
    (host) => host.virtio.attach(new Blk({ disk: 'close' in disk ? host.own(disk) : disk })),
    (host) => host.virtio.attach(new Balloon({ memory: host })),
  ]
}

async function start(program: Program, index: number): Promise<Running> {
  let text = ''
  const output = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk)
      done()
    },
  })
  const vm = await MicroVm.create({
    kernel: join(folder, program),
    entry: 'linux64',
    memory: MEMORY,
    devices: devicesOf(program, index),
    output,
  })
  const running: { -readonly [K in keyof Running]: Running[K] } = {
    program,
    vm,
    output: () => text,
    ended: Promise.resolve({ kind: 'failed', reason: '' }),
    go: false,
    said: false,
  }
  vm.pio.register({
    name: 'go',
    base: GO_PORT,
    size: 8,
    device: {
      read: (offset) => {
        if (offset !== 0) throw new Error('a device that is broken')
        return running.go ? 1 : 0
      },
      write: () => {
        running.said = true
      },
    },
  })
  running.ended = vm.run().then((end) => {
    running.end = end
    return end
  })
  return running
}

/** What a process has that VMs take. */
function resources() {
  const maps = readFileSync('/proc/self/maps', 'latin1').trim().split('\n')
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    kvmMappings: maps.filter((line) => line.includes('anon_inode:kvm-')).length,
    guestSized: maps.filter((line) => {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? []
      return Number.parseInt(to ?? '', 16) - Number.parseInt(from ?? '', 16) === MEMORY
    }).length,
    mappings: maps.length,
    active: process.getActiveResourcesInfo().sort().join(),
    memory: memoryOf(process.memoryUsage()),
  }
}

const memoryOf = ({ rss, heapUsed, external }: NodeJS.MemoryUsage) => ({ rss, heapUsed, external })

async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) {
    gc()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

const until = async (condition: () => boolean) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** Runs VMs at once, most of which live; those that are to die do, and the others go on after that. */
async function round(count: number) {
  const dying: readonly Program[] = [
    'prints',
    'triple-faults',
    'executes-nothing',
    'breaks-a-device',
    'breaks-a-queue',
  ]
  const some: readonly Program[] = [...dying, 'waits']
  const programs = Array.from({ length: count }, (_, index): Program => {
    if (index === 1) return 'spins'
    return index % 10 < some.length && index < 60 ? (some[index % 10] as Program) : 'halts'
  })
  const vms = await Promise.all(programs.map((program, index) => start(program, index)))
  const dead = new Set(dying)
  await Promise.all(vms.filter(({ program }) => dead.has(program)).map(({ ended }) => ended))
  const alive = vms.filter(({ program }) => !dead.has(program))
  const aliveAtOnce = alive.filter(({ end }) => end === undefined).length
  for (const vm of alive) vm.go = true
  await until(() => alive.every(({ program, said }) => program !== 'waits' || said))
  // Out of the guest and in again, all at once: none of them is stuck.
  await Promise.all(alive.map(({ vm }) => vm.pause()))
  for (const { vm } of alive) vm.resume()
  for (const { vm } of alive) vm.stop('seen')
  await Promise.all(alive.map(({ ended }) => ended))
  const ends: Record<string, string[]> = {}
  for (const { program, end, output } of vms) {
    ends[program] = [...new Set([...(ends[program] ?? []), `${end?.kind}${output()}`])]
  }
  for (const { vm } of vms) vm.close()
  return { ends, aliveAtOnce }
}

function prepare(): void {
  for (const program of Object.keys(PROGRAMS)) kernelOf(program as Program)
  writeFileSync(join(folder, 'disk'), new Uint8Array(65_536))
}

async function hundreds(): Promise<unknown> {
  prepare()
  // What the first one loads stays: libraries, the epoll instance.
  await round(10)
  const before = resources()
  const { ends, aliveAtOnce } = await round(200)
  await settle()
  return { ends, aliveAtOnce, before, after: resources() }
}

async function rounds(): Promise<unknown> {
  prepare()
  await round(ROUND)
  const vms = ROUND * ROUNDS
  for (let series = 1; ; series++) {
    await settle()
    const before = resources()
    for (let index = 0; index < ROUNDS; index++) await round(ROUND)
    await settle()
    const after = resources()
    // The heaps of C and V8 find their size in the first ones. What leaks does so in every one.
    const growth = (after.memory.rss - before.memory.rss) / vms
    if (growth < GROWTH_MAX || series === SERIES_MAX) return { vms, growth, before, after }
  }
}

async function limit(): Promise<unknown> {
  const kernel = kernelOf('halts')
  const create = (cpus: number) => {
    const exits: string[] = []
    const events = { exit: (reason: string) => exits.push(reason) }
    return MicroVm.create({ kernel, entry: 'linux64', memory: MEMORY, cpus, events }).then((vm) => ({
      vm,
      exits,
    }))
  }
  const running: { vm: MicroVm; ended: Promise<MicroVmEnd> }[] = []
  let refusal: unknown
  while (refusal === undefined) {
    const { vm } = await create(1)
    const ended = vm.run()
    running.push({ vm, ended })
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 20))]).catch((error) => {
      refusal = { name: error.name, code: error.code, message: error.message, vms: running.length - 1 }
    })
  }
  running.pop()?.vm.close()
  const files = (await readFile('/proc/self/comm', 'utf8')).length > 0
  const { address } = await lookup('localhost')

  // One thread is left, and a VM of two vCPUs comes. The others do not lose theirs while they are between two runs.
  await stopFirst()
  for (const { vm } of running) await vm.pause()
  const { vm: two, exits } = await create(2)
  const refused: string = await two.run().then(
    () => 'it ran',
    (error) => error.code,
  )
  const exitsOfRefused = exits.length
  for (const { vm } of running) vm.resume()
  for (const { vm } of running) await vm.pause()
  for (const { vm } of running) vm.resume()
  await stopFirst()
  const later = two.run()
  await two.pause()
  two.stop('it ran')
  const { reason } = await later
  two.close()
  const others = new Set<string>()
  while (running.length > 0) others.add(await stopFirst())
  return { refusal, files, address: address !== '', refused, exitsOfRefused, reason, others: [...others] }

  async function stopFirst(): Promise<string> {
    const first = running.shift()
    first?.vm.stop('told to')
    const end = await first?.ended
    first?.vm.close()
    return end?.reason ?? ''
  }
}

const COMMANDS: Readonly<Record<string, () => Promise<unknown>>> = { hundreds, rounds, limit }
process.stdout.write(`${JSON.stringify(await COMMANDS[process.argv[2] ?? '']?.())}\n`)
