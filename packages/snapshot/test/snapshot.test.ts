import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { guestAddress } from '@vmm/vm-memory'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Snapshot, SnapshotError, writeSnapshot } from '../src/index.ts'

const PAGE = 4096
const RANGES = [
  { start: 0, size: 8 * PAGE },
  { start: 2 ** 32, size: 4 * PAGE },
]
const STATE = { hello: [1, 2, 'three'], nothing: null }

let folder: string
let memory: MappedMemory

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmm-snapshot-'))
  memory = MappedMemory.anonymous(RANGES)
  memory.memory.fill(guestAddress(PAGE), PAGE, 0x11)
  memory.memory.fill(guestAddress(5 * PAGE + 100), 10, 0x22)
  memory.memory.fill(guestAddress(2 ** 32 + 3 * PAGE), PAGE, 0x33)
})
afterEach(() => {
  memory.close()
  rmSync(folder, { recursive: true })
})

const write = (state: unknown = STATE) => writeSnapshot(folder, { state, memory: memory.memory })
const named = (part: string) =>
  join(folder, String(readdirSync(folder).find((name) => name.startsWith(part) && !name.endsWith('.away'))))
const allBytes = ({ memory }: MappedMemory) => memory.regions.map(({ bytes }) => Buffer.from(bytes))

function refused(code: string): void {
  expect(() => Snapshot.open(folder).close()).toThrow(expect.objectContaining({ code }))
}

test('comes back as it was, its memory for each who maps it', async () => {
  await write()
  const snapshot = Snapshot.open(folder)
  expect(snapshot.state).toEqual(STATE)
  const [one, two] = [snapshot.mapMemory(), snapshot.mapMemory()]
  snapshot.close()
  expect(allBytes(one)).toEqual(allBytes(memory))
  one.memory.fill(guestAddress(PAGE), PAGE, 0x44)
  expect(allBytes(two)).toEqual(allBytes(memory))
  one.close()
  two.close()
  const again = Snapshot.open(folder)
  const third = again.mapMemory()
  expect(allBytes(third)).toEqual(allBytes(memory))
  third.close()
  again.close()
})

test('is a manifest, a state and a sparse file of the size of guest memory', async () => {
  await write()
  expect(readdirSync(folder)).toHaveLength(3)
  const { size, blocks, mode } = statSync(named('memory-'))
  expect(size).toBe(12 * PAGE)
  expect(blocks * 512).toBeLessThanOrEqual(3 * PAGE)
  expect(mode & 0o077).toBe(0)
  const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'))
  expect(manifest).toMatchObject({ format: 'vmm-snapshot', version: 1, memory: { ranges: RANGES } })
})

test('replaces the one before, and what was left of attempts; other files stay', async () => {
  await write({ number: 1 })
  const old = Snapshot.open(folder)
  const mapped = old.mapMemory()
  const stale = `memory-${'0'.repeat(36)}.bin`
  writeFileSync(join(folder, stale), 'x')
  writeFileSync(join(folder, 'notes.txt'), 'mine')
  memory.memory.fill(guestAddress(0), PAGE, 0x55)
  await write({ number: 2 })
  expect(readdirSync(folder)).toHaveLength(4)
  expect(readdirSync(folder)).toContain('notes.txt')
  const now = Snapshot.open(folder)
  expect(now.state).toEqual({ number: 2 })
  // Who had the old one keeps it.
  expect(mapped.memory.regions[0]?.bytes[0]).toBe(0)
  mapped.close()
  old.close()
  now.close()
})

test('a snapshot of a VM that was restored has what it never touched, too', async () => {
  await write()
  const first = Snapshot.open(folder)
  const restored = first.mapMemory()
  first.close()
  restored.memory.fill(guestAddress(2 * PAGE), PAGE, 0x66)
  const expected = allBytes(memory)
  expected[0]?.fill(0x66, 2 * PAGE, 3 * PAGE)
  await writeSnapshot(folder, { state: STATE, memory: restored.memory })
  restored.close()
  const second = Snapshot.open(folder)
  const mapped = second.mapMemory()
  expect(allBytes(mapped)).toEqual(expected)
  mapped.close()
  second.close()
})

test('a folder without one, or that is none', () => {
  refused('ERR_SNAPSHOT_MISSING')
  rmSync(folder, { recursive: true })
  refused('ERR_SNAPSHOT_MISSING')
  writeFileSync(folder, '')
  refused('ERR_SNAPSHOT_MISSING')
})

test('a version of the future', async () => {
  await write()
  const path = join(folder, 'manifest.json')
  writeFileSync(path, readFileSync(path, 'utf8').replace('"version": 1', '"version": 2'))
  refused('ERR_SNAPSHOT_VERSION')
})

test('a file that is missing, a link, a folder, or of another size', async () => {
  for (const part of ['state-', 'memory-']) {
    await write()
    const path = named(part)
    renameSync(path, `${path}.away`)
    refused('ERR_SNAPSHOT_DAMAGED')
    symlinkSync(`${path}.away`, path)
    refused('ERR_SNAPSHOT_DAMAGED')
  }
  await write()
  truncateSync(named('memory-'), 11 * PAGE)
  refused('ERR_SNAPSHOT_DAMAGED')
})

test('every byte of manifest and state flipped, and every truncation, is refused or means the same', async () => {
  await write()
  for (const path of [join(folder, 'manifest.json'), named('state-')]) {
    const good = readFileSync(path)
    for (let at = 0; at < good.length; at += 1) {
      for (const bad of [flipped(good, at), good.subarray(0, at)]) {
        writeFileSync(path, bad)
        let snapshot: Snapshot | undefined
        try {
          snapshot = Snapshot.open(folder)
        } catch (error) {
          expect(error).toBeInstanceOf(SnapshotError)
        }
        if (snapshot !== undefined) expect(snapshot.state).toEqual(STATE)
        snapshot?.close()
      }
    }
    writeFileSync(path, good)
  }
  Snapshot.open(folder).close()
})

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = Uint8Array.from(bytes)
  copy[at] = (copy[at] as number) ^ 1
  return copy
}
