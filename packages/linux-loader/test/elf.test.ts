import { describe, expect, it } from 'vitest'
import { loadElf } from '../src/elf.ts'
import { expectLoaderError } from './expect-error.ts'
import { concat, EHDR_SIZE, elfImage, elfNote, PHDR_SIZE, PT_NOTE, pattern } from './images.ts'
import { PlainMemory } from './plain-memory.ts'

const MIB = 2 ** 20
const XEN_ELFNOTE_PHYS32_ENTRY = 18
const text = pattern(3000)
const data = pattern(100, 7)
const image = elfImage(2 * MIB + 16, [
  { paddr: 2 * MIB, bytes: text },
  { paddr: 3 * MIB, bytes: data, memsz: 5000 },
])
const le = (value: number, size: 4 | 8): Uint8Array => {
  const bytes = new Uint8Array(size)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}
const withNotes = (notes: Uint8Array): Uint8Array =>
  elfImage(2 * MIB, [
    { paddr: 2 * MIB, bytes: text },
    { type: PT_NOTE, bytes: notes },
  ])
const patched = (patch: (view: DataView) => void, base: Uint8Array = image): Uint8Array => {
  const copy = base.slice()
  patch(new DataView(copy.buffer))
  return copy
}

describe('loadElf', () => {
  it('puts segments at their physical addresses and zeroes the rest of them', () => {
    const memory = PlainMemory.ofSize(8 * MIB)
    memory.fill(0, 8 * MIB, 0xee)
    const kernel = loadElf(memory, image)
    expect(kernel).toMatchObject({
      kind: 'elf',
      protocol: 'linux64',
      entry: 2 * MIB + 16,
      kernelStart: 2 * MIB,
      kernelEnd: 3 * MIB + 5000,
      pvhEntry: undefined,
    })
    expect(memory.read(2 * MIB, text.length)).toEqual(text)
    expect(memory.read(3 * MIB, data.length)).toEqual(data)
    expect(memory.read(3 * MIB + data.length, 4900)).toEqual(new Uint8Array(4900))
    expect(memory.read(3 * MIB + 5000, 1)).toEqual(Uint8Array.of(0xee))
    expect(memory.read(2 * MIB - 1, 1)).toEqual(Uint8Array.of(0xee))
    expect(memory.read(2 * MIB + text.length, 1)).toEqual(Uint8Array.of(0xee))
  })

  it('does not care where in the file a segment without bytes would lie', () => {
    const memory = PlainMemory.ofSize(8 * MIB)
    memory.fill(0, 8 * MIB, 0xee)
    const bss = elfImage(2 * MIB, [
      { paddr: 2 * MIB, bytes: text },
      { paddr: 3 * MIB, memsz: 100, offset: 0x10_0000 },
    ])
    expect(loadElf(memory, bss).kernelEnd).toBe(3 * MIB + 100)
    expect(memory.read(3 * MIB, 100)).toEqual(new Uint8Array(100))
  })

  it('moves a segment larger than one chunk whole', () => {
    const large = pattern(3 * MIB + 123)
    const memory = PlainMemory.ofSize(8 * MIB)
    loadElf(memory, elfImage(MIB, [{ paddr: MIB, bytes: large }]))
    expect(Buffer.compare(memory.read(MIB, large.length), large)).toBe(0)
  })

  it('adds an offset to addresses and entry', () => {
    const low = elfImage(0x400, [{ paddr: 0, bytes: pattern(0x1000) }])
    const memory = PlainMemory.ofSize(8 * MIB)
    expect(loadElf(memory, low, { highmemStart: 0 }).entry).toBe(0x400)
    expect(loadElf(memory, low, { offset: 0x200000 })).toMatchObject({
      entry: 0x200400,
      kernelStart: 0x200000,
    })
    expectLoaderError('ERR_KERNEL_TOO_LOW', () =>
      loadElf(memory, low, { offset: 0x200000, highmemStart: 0xa00000 }),
    )
    expectLoaderError('ERR_KERNEL_TOO_LOW', () => loadElf(memory, low), /0x0, below 0x100000/)
  })

  it('loads nothing of a kernel that does not fit, and says what is missing', () => {
    const memory = new PlainMemory([{ start: 0, size: 3 * MIB + 1000 }])
    expectLoaderError(
      'ERR_KERNEL_DOES_NOT_FIT',
      () => loadElf(memory, image),
      /needs 5000 bytes of guest memory at 0x300000-0x301387, but the guest has 3.0 MiB/,
    )
    expect(memory.writes).toBe(0)
  })

  it('refuses a segment over a hole between regions', () => {
    const memory = new PlainMemory([
      { start: 0, size: 3 * MIB },
      { start: 4 * MIB, size: 4 * MIB },
    ])
    expectLoaderError('ERR_KERNEL_DOES_NOT_FIT', () => loadElf(memory, image))
  })

  describe('refuses', () => {
    const memory = PlainMemory.ofSize(8 * MIB)
    const phdr = (index: number): number => EHDR_SIZE + index * PHDR_SIZE
    it.each([
      ['a bad magic number', 'ERR_KERNEL_UNKNOWN', (view) => view.setUint8(0, 0)],
      ['32-bit files', 'ERR_KERNEL_32BIT', (view) => view.setUint8(4, 1)],
      ['an unknown class', 'ERR_KERNEL_INVALID', (view) => view.setUint8(4, 3)],
      ['big-endian files', 'ERR_KERNEL_BIG_ENDIAN', (view) => view.setUint8(5, 2)],
      ['other machines', 'ERR_KERNEL_MACHINE', (view) => view.setUint16(18, 183, true)],
      ['object files', 'ERR_KERNEL_INVALID', (view) => view.setUint16(16, 1, true)],
      [
        'program headers inside the ELF header',
        'ERR_KERNEL_INVALID',
        (view) => view.setUint32(32, 0x10, true),
      ],
      ['program headers past the file', 'ERR_KERNEL_TRUNCATED', (view) => view.setUint32(32, 1 << 30, true)],
      ['program headers beyond 2^53', 'ERR_KERNEL_INVALID', (view) => view.setUint32(36, 1 << 30, true)],
      ['program headers of another size', 'ERR_KERNEL_INVALID', (view) => view.setUint16(54, 32, true)],
      ['65535 program headers', 'ERR_KERNEL_INVALID', (view) => view.setUint16(56, 0xffff, true)],
      ['no program headers', 'ERR_KERNEL_INVALID', (view) => view.setUint16(56, 0, true)],
      ['an entry below all segments', 'ERR_KERNEL_INVALID', (view) => view.setUint32(24, 0x123, true)],
      ['an entry after one', 'ERR_KERNEL_INVALID', (view) => view.setUint32(24, 2 * MIB + text.length, true)],
      [
        'file contents past the end',
        'ERR_KERNEL_TRUNCATED',
        (view) => view.setUint32(phdr(0) + 8, 1 << 30, true),
      ],
      [
        'a load address beyond 2^53',
        'ERR_KERNEL_INVALID',
        (view) => view.setUint32(phdr(0) + 28, 1 << 30, true),
      ],
      [
        'a load address past RAM',
        'ERR_KERNEL_DOES_NOT_FIT',
        (view) => view.setUint32(phdr(1) + 28, 1 << 20, true),
      ],
      [
        'a memory size past RAM',
        'ERR_KERNEL_DOES_NOT_FIT',
        (view) => view.setUint32(phdr(1) + 44, 1 << 20, true),
      ],
      ['less memory than file', 'ERR_KERNEL_INVALID', (view) => view.setUint32(phdr(1) + 40, 99, true)],
      [
        'overlapping segments',
        'ERR_KERNEL_INVALID',
        (view) => view.setUint32(phdr(1) + 24, 2 * MIB + 2999, true),
      ],
    ] as const satisfies readonly (readonly [string, string, (view: DataView) => void])[])(
      '%s',
      (_, code, patch) => {
        memory.writes = 0
        expectLoaderError(code, () => loadElf(memory, patched(patch)))
        expect(memory.writes).toBe(0)
      },
    )

    it('a file cut short anywhere', () => {
      for (let size = 0; size < image.length; size++) {
        const code = size < 4 ? 'ERR_KERNEL_UNKNOWN' : 'ERR_KERNEL_TRUNCATED'
        expectLoaderError(code, () => loadElf(memory, image.subarray(0, size)))
      }
    })
  })
})

describe('the PVH note', () => {
  const load = (notes: Uint8Array, options = {}) =>
    loadElf(PlainMemory.ofSize(8 * MIB), withNotes(notes), options)
  const other = elfNote('GNU\0', 3, pattern(20))
  const pvh = (descriptor: Uint8Array) => elfNote('Xen\0', XEN_ELFNOTE_PHYS32_ENTRY, descriptor)

  it.each([4, 8] as const)('names an entry point in %d bytes, after notes of odd sizes', (size) => {
    const odd = elfNote('Linux\0', 257, pattern(5))
    const notes = concat(other, odd, elfNote('Xen\0', 6, pattern(6)), pvh(le(0x1e1fe1f, size)))
    expect(load(notes)).toMatchObject({ pvhEntry: 0x1e1fe1f, protocol: 'linux64', entry: 2 * MIB })
    expect(load(notes, { protocol: 'pvh' })).toMatchObject({ protocol: 'pvh', entry: 0x1e1fe1f })
  })

  it('is ignored when the image is moved', () => {
    const notes = pvh(le(0x1e1fe1f, 8))
    expect(load(notes, { offset: MIB }).pvhEntry).toBeUndefined()
    expectLoaderError('ERR_KERNEL_PVH_NOTE', () => load(notes, { offset: MIB, protocol: 'pvh' }), /absolute/)
  })

  it('is absent among other notes', () => {
    expect(load(concat(other, elfNote('XEN\0', XEN_ELFNOTE_PHYS32_ENTRY, le(1, 4)))).pvhEntry).toBeUndefined()
    expectLoaderError('ERR_KERNEL_PVH_NOTE', () => load(other, { protocol: 'pvh' }))
  })

  it('is refused when it is malformed', () => {
    expectLoaderError('ERR_KERNEL_PVH_NOTE', () => load(pvh(pattern(2))))
    expectLoaderError('ERR_KERNEL_PVH_NOTE', () => load(pvh(Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0))))
    expectLoaderError('ERR_KERNEL_PVH_NOTE', () => load(pvh(le(0x1000, 8)).subarray(0, 20)))
    expectLoaderError('ERR_KERNEL_PVH_NOTE', () =>
      load(concat(le(0xffffffff, 4), le(0xffffffff, 4), le(18, 4))),
    )
  })

  it('is not looked for in unreasonably many notes', () => {
    expectLoaderError('ERR_KERNEL_INVALID', () => load(new Uint8Array(0x10001)))
  })
})
