import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { guestAddress, MemoryError } from '@vmm/vm-memory'
import { MappedMemory, privateRuns } from '@vmm/vm-memory/mmap'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Snapshot, SnapshotError, writeSnapshot } from '../src/index.ts'
import { LAYERS_MAX } from '../src/manifest.ts'

const PAGE = 4096
const RANGES = [
  { start: 0, size: 8 * PAGE },
  { start: 2 ** 32, size: 4 * PAGE },
]
const STATE = { some: 'state' }

let base: string
let folder: string
let memory: MappedMemory

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'vmm-differential-'))
  folder = join(base, 'snapshot')
  memory = MappedMemory.anonymous(RANGES)
  for (const { start, size } of RANGES) memory.memory.fill(guestAddress(start), size, 0x11)
})
afterEach(() => {
  memory.close()
  rmSync(base, { recursive: true })
})

const write = (to: MappedMemory, differential: boolean, into: string = folder) =>
  writeSnapshot(into, { state: STATE, memory: to.memory, differential })
const bytesOf = ({ memory }: MappedMemory) => Buffer.concat(memory.regions.map(({ bytes }) => bytes))

/** Opens, maps, and closes the snapshot. */
function mapped(from: string = folder): MappedMemory {
  const snapshot = Snapshot.open(from)
  try {
    return snapshot.mapMemory()
  } finally {
    snapshot.close()
  }
}

const original = MappedMemory.prototype.overlay

/** Memory of no file, with the same contents. */
function anonymousLike(ram: MappedMemory): MappedMemory {
  const copy = MappedMemory.anonymous(RANGES)
  for (const [index, { bytes }] of ram.memory.regions.entries()) copy.memory.regions[index]?.bytes.set(bytes)
  return copy
}

function expectSaved(expected: MappedMemory, from: string = folder): void {
  const found = mapped(from)
  expect(bytesOf(found).equals(bytesOf(expected))).toBe(true)
  found.close()
}

test('has what was written since memory was mapped, and nothing else', async () => {
  expect(await write(memory, true)).toEqual({ kind: 'full', memoryBytes: 12 * PAGE })
  const restored = mapped()
  restored.memory.fill(guestAddress(3 * PAGE + 7), 1, 0x22)
  restored.memory.fill(guestAddress(2 ** 32 + PAGE), 2 * PAGE, 0)
  expect(await write(restored, true)).toEqual({ kind: 'differential', memoryBytes: 3 * PAGE })
  expect(readdirSync(folder)).toHaveLength(5)
  expectSaved(restored)
  // To the same snapshot as before.
  restored.memory.fill(guestAddress(0), 1, 0x33)
  expect((await write(restored, true)).memoryBytes).toBe(4 * PAGE)
  expect(readdirSync(folder)).toHaveLength(5)
  expectSaved(restored)
  const again = mapped()
  again.memory.fill(guestAddress(4 * PAGE), 1, 0x44)
  expect((await write(again, true)).memoryBytes).toBe(PAGE)
  expectSaved(again)
  // Nothing at all.
  const unchanged = mapped()
  expect(await write(unchanged, true)).toEqual({ kind: 'differential', memoryBytes: 0 })
  expectSaved(again)
  for (const one of [restored, again, unchanged]) one.close()
})

test("memory that is rebased is the snapshot's, and the next one is differential to it", async () => {
  await write(memory, false)
  const snapshot = Snapshot.open(folder)
  const before = bytesOf(memory)
  snapshot.rebase(memory)
  snapshot.close()
  expect(bytesOf(memory).equals(before)).toBe(true)
  expect(memory.memory.regions.flatMap((region) => privateRuns(region))).toEqual([])
  memory.memory.fill(guestAddress(PAGE), PAGE, 0x22)
  expect(await write(memory, true)).toEqual({ kind: 'differential', memoryBytes: PAGE })
  expectSaved(memory)
})

test('memory of other ranges is not rebased', async () => {
  await write(memory, false)
  const other = MappedMemory.anonymous([{ start: 0, size: 12 * PAGE }])
  const snapshot = Snapshot.open(folder)
  expect(() => snapshot.rebase(other)).toThrow(expect.objectContaining({ code: 'ERR_SNAPSHOT_MEMORY' }))
  snapshot.close()
  other.close()
})

test('memory that could be rebased in part alone is saved as a whole, and right', async () => {
  await write(memory, false)
  const restored = mapped()
  for (const page of [1, 5]) restored.memory.fill(guestAddress(page * PAGE), PAGE, 0x22)
  await write(restored, true)
  for (const ram of [restored, anonymousLike(restored)]) {
    const before = bytesOf(ram)
    const snapshot = Snapshot.open(folder)
    // The host has no more mappings (vm.max_map_count) after some of them.
    const overlay = vi.spyOn(ram, 'overlay')
    for (let time = 0; time < 3; time++)
      overlay.mockImplementationOnce((...part) => original.apply(ram, part))
    overlay.mockImplementationOnce(() => {
      throw new MemoryError('ERR_MEMORY_ALLOCATION', 'no more mappings')
    })
    expect(() => snapshot.rebase(ram)).toThrow('no more mappings')
    overlay.mockRestore()
    snapshot.close()
    expect(bytesOf(ram).equals(before)).toBe(true)
    const other = join(base, 'other')
    expect((await write(ram, true, other)).kind).toBe('full')
    expectSaved(ram, other)
    ram.close()
  }
})

test('a snapshot that fails leaves nothing of those before in another folder', async () => {
  await write(memory, false)
  const restored = mapped()
  const other = join(base, 'other')
  const failing = writeSnapshot(other, {
    state: STATE,
    memory: restored.memory,
    differential: true,
    copied: () => {
      expect(readdirSync(other)).toHaveLength(4)
      throw new Error('the VM cannot go on')
    },
  })
  await expect(failing).rejects.toMatchObject({ code: 'ERR_SNAPSHOT_IO' })
  expect(readdirSync(other)).toEqual([])
  expectSaved(memory)
  restored.close()
})

test('in another folder has the files of the first one, which may go', async () => {
  await write(memory, false)
  const restored = mapped()
  const other = join(base, 'other')
  restored.memory.fill(guestAddress(0), 1, 0x22)
  expect((await write(restored, true, other)).kind).toBe('differential')
  rmSync(folder, { recursive: true })
  expectSaved(restored, other)
  restored.close()
})

test('is a whole one where the files that memory comes from have gone or are others', async () => {
  await write(memory, false)
  const restored = mapped()
  await write(memory, false)
  restored.memory.fill(guestAddress(0), 1, 0x22)
  const other = join(base, 'other')
  expect((await write(restored, true, other)).kind).toBe('full')
  expectSaved(restored, other)
  restored.close()

  const second = mapped(other)
  const name = String(readdirSync(other).find((one) => one.startsWith('memory-')))
  copyFileSync(join(other, name), join(base, name))
  rmSync(join(other, name))
  copyFileSync(join(base, name), join(other, name))
  expect((await write(second, true, other)).kind).toBe('full')
  expectSaved(second, other)
  second.close()
})

test(`is a whole one after ${LAYERS_MAX} layers`, async () => {
  await write(memory, false)
  const kinds: string[] = []
  for (let index = 0; index <= LAYERS_MAX; index++) {
    const restored = mapped()
    restored.memory.fill(guestAddress((index % 8) * PAGE), PAGE, index + 1)
    kinds.push((await write(restored, true)).kind)
    expectSaved(restored)
    restored.close()
  }
  expect(kinds.indexOf('full')).toBe(LAYERS_MAX - 1)
  expect(kinds.lastIndexOf('full')).toBe(LAYERS_MAX - 1)
})

test('memory may change as soon as it has been copied', async () => {
  let seen = ''
  await writeSnapshot(folder, {
    state: STATE,
    memory: memory.memory,
    copied: () => {
      seen = readdirSync(folder).join()
      memory.memory.fill(guestAddress(0), PAGE, 0x77)
    },
  })
  expect(seen).toMatch(/^memory-[^,]*,state-[^,]*$/)
  const found = mapped()
  expect(found.memory.readUint8(guestAddress(0))).toBe(0x11)
  found.close()
})

test('any row of restoring, rebasing, writing and saving keeps every byte', async () => {
  const step = fc.record({
    kind: fc.constantFrom('restore', 'rebase', 'stay'),
    differential: fc.boolean(),
    folder: fc.constantFrom('snapshot', 'other'),
    writes: fc.array(
      fc.record({
        page: fc.nat(11),
        offset: fc.nat(PAGE - 1),
        value: fc.constantFrom(0, 1, 2, 255),
        whole: fc.boolean(),
      }),
      { maxLength: 4 },
    ),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 6 }), async (steps) => {
      const root = mkdtempSync(join(base, 'row-'))
      let current = MappedMemory.anonymous(RANGES)
      const model = Buffer.alloc(12 * PAGE)
      for (const { kind, differential, folder, writes } of steps) {
        for (const { page, offset, value, whole } of writes) {
          const [from, size] = whole ? [0, PAGE] : [offset, 1]
          const position = page * PAGE + from
          model.fill(value, position, position + size)
          const address = page < 8 ? position : position - 8 * PAGE + 2 ** 32
          current.memory.fill(guestAddress(address), size, value)
        }
        await write(current, differential, join(root, folder))
        const snapshot = Snapshot.open(join(root, folder))
        if (kind === 'rebase') snapshot.rebase(current)
        if (kind === 'restore') {
          current.close()
          current = snapshot.mapMemory()
        }
        snapshot.close()
        expect(bytesOf(current).equals(model)).toBe(true)
        const saved = mapped(join(root, folder))
        expect(bytesOf(saved).equals(model)).toBe(true)
        saved.close()
      }
      current.close()
    }),
    { numRuns: 60 },
  )
})

test('every byte of its texts flipped, and every file truncated, is refused or means the same', async () => {
  await write(memory, false)
  const restored = mapped()
  restored.memory.fill(guestAddress(3 * PAGE), PAGE, 0x22)
  restored.memory.fill(guestAddress(6 * PAGE), PAGE, 0x22)
  await write(restored, true)
  const expected = bytesOf(restored)
  // Who truncates its file takes pages from it.
  restored.close()
  for (const name of readdirSync(folder)) {
    const path = join(folder, name)
    const good = readFileSync(path)
    const isText = name.includes('.json')
    for (let at = 0; at < good.length; at += isText ? 1 : PAGE) {
      for (const bad of isText ? [flipped(good, at), good.subarray(0, at)] : [good.subarray(0, at)]) {
        writeFileSync(path, bad)
        let found: MappedMemory | undefined
        try {
          found = mapped()
        } catch (error) {
          expect(error).toBeInstanceOf(SnapshotError)
        }
        if (found !== undefined) expect(bytesOf(found).equals(expected)).toBe(true)
        found?.close()
      }
    }
    writeFileSync(path, good)
  }
  const whole = mapped()
  expect(bytesOf(whole).equals(expected)).toBe(true)
  whole.close()
})

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = Uint8Array.from(bytes)
  copy[at] = (copy[at] as number) ^ 1
  return copy
}
