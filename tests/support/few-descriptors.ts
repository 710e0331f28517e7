/**
 * Makes and restores a VM with as few free descriptors as there may be: with none, with one, and so on until there are enough.
 * In a process of its own, with a limit that is soon reached. Prints what became of each try, and what it left.
 *
 *   node few-descriptors.js FOLDER
 */
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openDisk } from '@vmm/block'
import { BOOT_MARKER, BOOT_TIMER_PORT } from '@vmm/devices'
import { Blk, Fs, Rng } from '@vmm/devices/virtio'
import { type AttachDevice, MicroVm, type MicroVmOptions, stateFromJson, stateToJson } from '@vmm/microvm'
import { SharedDirectory } from '@vmm/shared-dir'
import { Snapshot, writeSnapshot } from '@vmm/snapshot'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import { kernelImage } from './elf.ts'
import { HALT, print } from './guest-code.ts'

const MEMORY = 2 ** 25
const MARK = print(String.fromCharCode(BOOT_MARKER), BOOT_TIMER_PORT)

const folder = process.argv[2] ?? '.'
const file = (name: string) => join(folder, name)

const descriptors = () => readdirSync('/proc/self/fd').length
/** Of KVM, of io_uring, and of guest memory. */
const mappings = () => {
  const lines = readFileSync('/proc/self/maps', 'latin1').split('\n')
  return lines.filter((line) => {
    const [start = 0, end = 0] = (line.split(' ')[0] ?? '')
      .split('-')
      .map((text) => Number.parseInt(text, 16))
    return /kvm|io_uring/.test(line) || end - start === MEMORY
  }).length
}

writeFileSync(file('guest'), kernelImage([...MARK, ...HALT]))
writeFileSync(file('disk'), new Uint8Array(65_536))

const devices: AttachDevice[] = [
  (host) => host.virtio.attach(new Blk({ disk: host.own(openDisk(file('disk'))) })),
  (host) => host.virtio.attach(new Rng()),
  (host) => host.virtio.attach(new Fs({ tag: 'share', fileSystem: host.own(new SharedDirectory(folder)) })),
]
const options: MicroVmOptions = { kernel: file('guest'), memory: MEMORY, devices }

/** What there is of a try. */
interface Outcome {
  readonly error: string | undefined
  readonly code: string | undefined
  readonly message: string | undefined
  readonly descriptors: number
  readonly mappings: number
}

/** Tries until it can be done. */
async function tryWithMore(make: () => Promise<{ close(): void }>): Promise<Outcome[]> {
  // What is made once for the process is there after the first time.
  ;(await make()).close()
  const before = { descriptors: descriptors(), mappings: mappings() }
  const outcomes: Outcome[] = []
  for (let free = 0; outcomes.at(-1)?.error !== undefined || free === 0; free++) {
    const taken: number[] = []
    try {
      for (;;) taken.push(openSync('/dev/null', 'r'))
    } catch {
      for (const fd of taken.splice(taken.length - free, free)) closeSync(fd)
    }
    let thrown: (Error & { code?: string }) | undefined
    try {
      ;(await make()).close()
    } catch (error) {
      thrown = error as Error
    }
    for (const fd of taken) closeSync(fd)
    outcomes.push({
      error: thrown?.name,
      code: thrown?.code,
      message: thrown?.message,
      descriptors: descriptors() - before.descriptors,
      mappings: mappings() - before.mappings,
    })
  }
  return outcomes
}

/** A VM that stands still at its boot marker is what others are restored from. */
async function save(): Promise<Snapshot> {
  let paused: Promise<void> | undefined
  const events = {
    bootMarker: () => {
      paused = vm.pause()
    },
  }
  const vm = await MicroVm.create({ ...options, events })
  const ended = vm.run()
  while (paused === undefined) await new Promise((resolve) => setTimeout(resolve, 1))
  await paused
  await writeSnapshot(file('saved'), { state: stateToJson(await vm.state()), memory: vm.memory })
  vm.stop('saved')
  await ended
  vm.close()
  return Snapshot.open(file('saved'))
}

const created = await tryWithMore(() => MicroVm.create(options))
const snapshot = await save()
const restored = await tryWithMore(() =>
  MicroVm.restore(stateFromJson(snapshot.state), snapshot.mapMemory(), { devices }),
)
snapshot.close()
const ram = MappedMemory.anonymous([{ start: 0, size: MEMORY }])
const opened = await tryWithMore(async () => {
  await writeSnapshot(file('saved'), { state: null, memory: ram.memory })
  const written = Snapshot.open(file('saved'))
  written.mapMemory().close()
  return written
})
ram.close()

/** Has no descriptor left, and a guest that runs. */
async function runWithNone() {
  const vm = await MicroVm.create(options)
  const ended = vm.run()
  await new Promise((resolve) => setTimeout(resolve, 20))
  const taken: number[] = []
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'))
  } catch {
    return { vm, ended, taken }
  }
}

const { vm, ended, taken } = await runWithNone()
await vm.pause()
vm.resume()
vm.stop('without a descriptor')
const { reason } = await ended
vm.close()
for (const fd of taken) closeSync(fd)
const files = readdirSync(file('saved')).length
process.stdout.write(JSON.stringify({ created, restored, opened, files, reason }))
// The process ends while a guest runs.
await runWithNone()
process.exit()
