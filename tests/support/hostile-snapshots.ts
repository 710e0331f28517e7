/**
 * A program that goes on with a saved VM again and again, each time with something in it that nobody saved: to be run in a process of
 * its own, which must live. What it prints is for tests/hostile/snapshot.test.ts.
 *
 *   hostile-snapshots KERNEL FOLDER SEED ROUNDS
 *
 * FOLDER/current says what it is at, for when it does not come back.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import {
  Balloon,
  Blk,
  BufferDisk,
  Console,
  Fs,
  memoryTree,
  Net,
  Rng,
  UserNetwork,
  UserTree,
  Vsock,
} from '@vmm/devices/virtio'
import { type AttachDevice, MicroVm, type MicroVmEnd, stateFromJson, stateToJson } from '@vmm/microvm'
import { Snapshot, writeSnapshot } from '@vmm/snapshot'

const MEMORY = 64 * 2 ** 20
const STEPS = 1_000_000
const DISK_BYTES = 2 ** 16
/** How far the guest gets before it is saved. */
const RUN_MS_MAX = 200
/** How far a restored one gets: turns of the event loop. */
const TURNS_MAX = 20
/** How long it takes to end, on a host that is busy. */
const PATIENCE_MS = 60_000
/** How many bytes of guest memory are others, at most. */
const BYTES_MAX = 1000
/** One in so many objects and arrays is another as a whole. */
const WHOLES = 12
const ERRORS = ['MicroVmError', 'DevicesError', 'KvmError', 'SystemError']

const [kernel = '', folder = '', seedText = '', roundsText = ''] = process.argv.slice(2)
const saved = join(folder, 'saved')

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
/** Where a value is. */
interface Place {
  readonly path: string
  readonly get: () => Json
  set(value: Json): void
}

/** mulberry32 */
let seed = Number(seedText)
function below(bound: number): number {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * bound)
}
const oneOf = <T>(values: readonly T[]): T => values[below(values.length)] as T

function devices(): AttachDevice[] {
  return [
    ({ virtio }) => virtio.attach(new Blk({ disk: new BufferDisk(new Uint8Array(DISK_BYTES)) })),
    ({ virtio }) => virtio.attach(new Net({ network: new UserNetwork({ receive: () => undefined }) })),
    ({ virtio }) => virtio.attach(new Rng()),
    (host) => host.virtio.attach(new Balloon({ memory: host })),
    ({ virtio }) => virtio.attach(new Console({ ports: [{ console: true }, { name: 'agent' }] })),
    ({ virtio }) => virtio.attach(new Vsock({ guestCid: 3 })),
    ({ virtio }) =>
      virtio.attach(new Fs({ tag: 'tree', fileSystem: new UserTree(memoryTree({ file: 'text' })) })),
  ]
}

/** Saves a VM amid an attack on its devices. */
async function save(): Promise<void> {
  const vm = await MicroVm.create({
    ...{ kernel, entry: 'pvh', memory: MEMORY, cpus: 2, devices: devices() },
    cmdline: `attack.seed=${seedText} attack.steps=${STEPS}`,
  })
  const ended = vm.run()
  await sleep(below(RUN_MS_MAX))
  await vm.pause()
  await writeSnapshot(saved, { state: stateToJson(await vm.state()), memory: vm.memory })
  vm.stop('saved')
  await ended
  vm.close()
}

/**
 * A place in a value. Each part of a part is as likely as the next, however much lies in it: there are a thousand numbers of CPUID, and
 * one size of memory.
 */
function somewhere(root: Json): Place {
  let holder = root as { [key: string]: Json }
  let path = ''
  for (;;) {
    const at = holder
    const key = oneOf(Object.keys(at))
    path += `.${key}`
    const value = at[key] as Json
    const goesOn = typeof value === 'object' && value !== null && Object.keys(value).length > 0
    if (!goesOn || below(WHOLES) === 0) {
      return {
        path,
        get: () => at[key] as Json,
        set(next) {
          at[key] = next
        },
      }
    }
    holder = value as { [key: string]: Json }
  }
}

const NUMBERS = [
  0,
  1,
  2,
  7,
  255,
  256,
  4095,
  4096,
  65_535,
  65_536,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 53,
]
const OTHERS: readonly Json[] = [null, true, false, '', 'text', [], {}, -1, 0.5, 1e300, ...NUMBERS]

/** Another value of the same kind, mostly. */
function other(value: Json): Json {
  if (below(6) === 0) return structuredClone(oneOf(OTHERS)) as Json
  if (typeof value === 'number')
    return oneOf([...NUMBERS, value + 1, value - 1, 2 * value, value ^ (1 << below(31))])
  if (typeof value === 'boolean') return !value
  if (typeof value === 'string') return otherText(value)
  if (Array.isArray(value)) {
    const at = below(value.length + 1)
    const copy = structuredClone(value)
    return oneOf([[...copy.slice(0, at), ...copy.slice(at + 1)], [...copy, ...copy], copy.reverse()])
  }
  if (value === null) return oneOf(OTHERS)
  const [gone] = Object.keys(value).slice(below(Object.keys(value).length))
  return Object.fromEntries(Object.entries(value).filter(([key]) => key !== gone))
}

/** What is written in hexadecimal or base64 is so again. */
function otherText(text: string): string {
  const at = below(text.length)
  const digit = oneOf([...'0123456789abcdef'])
  return oneOf([
    text.slice(0, at) + digit + text.slice(at + 1),
    text.replace(/[0-9a-zA-Z]/g, '0'),
    text.replace(/[0-9a-f](?=[0-9a-f]*$)/g, 'f'),
    text + text,
    text.slice(0, at),
  ])
}

/** A state that differs from what was saved. @returns undefined for what is no JSON: no snapshot has it */
function damage(text: string): { json: Json; what: string } | undefined {
  if (below(4) === 0) {
    const at = below(text.length)
    const char = String.fromCharCode(text.charCodeAt(at) ^ (1 << below(7)))
    try {
      const json = JSON.parse(text.slice(0, at) + char + text.slice(at + 1)) as Json
      return { json, what: `${JSON.stringify(char)} at ${at}` }
    } catch {
      return undefined
    }
  }
  const json = JSON.parse(text) as { [key: string]: Json }
  const changes = Array.from({ length: 1 + below(3) }, () => {
    const place = somewhere(json)
    place.set(other(place.get()))
    return `${place.path} = ${(JSON.stringify(place.get()) ?? '').slice(0, 200)}`
  })
  return { json, what: changes.join('; ') }
}

/** What is not one of the errors that the packages say they throw. */
function unexpected(error: unknown): string | undefined {
  const { name, message, stack } = error as Error
  return ERRORS.includes(name) && message !== '' ? undefined : `${stack}`
}

const tally = { refused: 0, ran: 0, unexpected: [] as string[] }

/** Goes on with a state that may be anything. */
async function attempt(snapshot: Snapshot, json: Json, what: string): Promise<void> {
  const note = (problem: string) => tally.unexpected.push(`${what}: ${problem}`)
  let vm: MicroVm
  try {
    vm = await MicroVm.restore(stateFromJson(json), snapshot.mapMemory(), { devices: devices() })
  } catch (error) {
    const problem = unexpected(error)
    if (problem === undefined) tally.refused += 1
    else note(problem)
    return
  }
  for (let left = below(2) * below(BYTES_MAX); left > 0; left -= 1) {
    vm.memory.writeUint8(below(2) === 0 ? below(MEMORY) : 2 ** 20 + below(2 ** 18), below(256))
  }
  // Refused here: more vCPUs than this process has threads.
  const running = vm.run().catch((cause): MicroVmEnd => ({ kind: 'failed', reason: cause.message, cause }))
  for (let turn = below(TURNS_MAX); turn > 0; turn -= 1) await nextTurn()
  vm.stop('seen')
  const timer = new AbortController()
  const late = sleep(PATIENCE_MS, 'late' as const, { signal: timer.signal }).catch(() => 'late' as const)
  const end: MicroVmEnd | 'late' = await Promise.race([running, late])
  timer.abort()
  if (end === 'late') throw new Error(`${what}: does not end`)
  vm.close()
  const problem = end.kind === 'failed' ? unexpected(end.cause) : undefined
  if (problem !== undefined) note(problem)
  else if (end.kind !== 'failed') tally.ran += 1
}

const descriptors = () => readdirSync('/proc/self/fd').length
const guestMappings = () => readFileSync('/proc/self/maps', 'latin1').split(saved).length - 1

await save()
const snapshot = Snapshot.open(saved)
const text = JSON.stringify(snapshot.state)
// As it is: it goes on, and what the first one opens for good is open.
await attempt(snapshot, JSON.parse(text) as Json, 'as it was saved')
const before = { descriptors: descriptors(), mappings: guestMappings() }
for (let round = 0; round < Number(roundsText); round += 1) {
  const damaged = damage(text)
  if (damaged === undefined) continue
  writeFileSync(join(folder, 'current'), damaged.what)
  await attempt(snapshot, damaged.json, damaged.what)
}
const after = { descriptors: descriptors(), mappings: guestMappings() }
snapshot.close()
process.stdout.write(`${JSON.stringify({ ...tally, before, after })}\n`)
