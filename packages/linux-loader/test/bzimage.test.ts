import { describe, expect, it } from 'vitest'
import { loadBzImage, parseBzImage } from '../src/bzimage.ts'
import { loadKernel } from '../src/load-kernel.ts'
import { expectLoaderError, expectRejection } from './expect-error.ts'
import { bzImage, elfImage, pattern } from './images.ts'
import { PlainMemory } from './plain-memory.ts'

const MIB = 2 ** 20
const SECTOR = 512
const code = pattern(3 * SECTOR)
const memory = PlainMemory.ofSize(32 * MIB)

describe('loadBzImage', () => {
  it('loads the protected-mode part where the kernel prefers it', () => {
    const kernel = loadBzImage(memory, bzImage(code))
    expect(kernel).toMatchObject({
      kind: 'bzimage',
      protocol: 'linux-bzimage',
      entry: 16 * MIB + 0x200,
      kernelStart: 16 * MIB,
      kernelEnd: 17 * MIB,
      pvhEntry: undefined,
    })
    expect(memory.read(16 * MIB, code.length)).toEqual(code)
    expect(kernel.setupHeader?.get('version')).toBe(0x20f)
    expect(kernel.setupHeader?.get('loadflags')).toBe(1)
    expect(kernel.setupHeader?.get('code32_start')).toBe(16 * MIB)
  })

  it('loads a relocatable kernel where the caller wants it', () => {
    const kernel = loadBzImage(memory, bzImage(code), { address: 4 * MIB })
    expect(kernel).toMatchObject({ kernelStart: 4 * MIB, entry: 4 * MIB + 0x200 })
    expect(kernel.setupHeader?.get('code32_start')).toBe(4 * MIB)
    expect(memory.read(4 * MIB, code.length)).toEqual(code)
  })

  it('counts the place that a kernel decompresses to, which is never below the one that it prefers', () => {
    const size = 24 * MIB
    const image = bzImage(code, { init_size: 4 * MIB })
    const kernel = loadBzImage(PlainMemory.ofSize(size), image, { address: 4 * MIB })
    expect(kernel).toMatchObject({ kernelStart: 4 * MIB, kernelEnd: 20 * MIB })
    expect(loadBzImage(PlainMemory.ofSize(size), image, { address: 18 * MIB }).kernelEnd).toBe(22 * MIB)
    const small = PlainMemory.ofSize(20 * MIB - 4096)
    expectLoaderError('ERR_KERNEL_DOES_NOT_FIT', () => loadBzImage(small, image, { address: 4 * MIB }))
  })

  it('moves no kernel that cannot be moved there', () => {
    const fixed = bzImage(code, { relocatable_kernel: 0 })
    expectLoaderError(
      'ERR_LOADER_ARGUMENT',
      () => loadBzImage(memory, fixed, { address: 4 * MIB }),
      /not relocatable/,
    )
    expect(loadBzImage(memory, fixed, { address: 16 * MIB }).kernelStart).toBe(16 * MIB)
    for (const address of [4 * MIB + 4096, -2 * MIB, 2 ** 53, Number.NaN])
      expectLoaderError('ERR_LOADER_ARGUMENT', () => loadBzImage(memory, bzImage(code), { address }))
    expectLoaderError('ERR_LOADER_ARGUMENT', () =>
      loadBzImage(memory, bzImage(code, { kernel_alignment: 0 }), { address: 4 * MIB }),
    )
  })

  it('loads above 4 GiB only a kernel that can be there', () => {
    const address = 2 ** 32 + 2 * MIB
    const high = new PlainMemory([{ start: 2 ** 32, size: 4 * MIB }])
    expect(loadBzImage(high, bzImage(code), { address }).entry).toBe(address + 0x200)
    const low = bzImage(code, { xloadflags: 0b01 })
    expectLoaderError('ERR_LOADER_ARGUMENT', () => loadBzImage(high, low, { address }), /below 4 GiB/)
  })

  it('takes setup_sects of 0 for 4', () => {
    const image = bzImage(code, { setup_sects: 0 })
    expect(parseBzImage(image).offset).toBe(5 * SECTOR)
    loadBzImage(memory, image)
    expect(memory.read(16 * MIB, code.length)).toEqual(code)
  })

  it('leaves out what follows the kernel, a signature', () => {
    memory.fill(16 * MIB, MIB, 0)
    loadBzImage(memory, bzImage(code, { syssize: (2 * SECTOR) / 16 }))
    expect(memory.read(16 * MIB + 2 * SECTOR, SECTOR)).toEqual(new Uint8Array(SECTOR))
  })

  it('hands on no more of a header than the image has', () => {
    // A jump over a header that ends after `xloadflags`.
    const { header } = parseBzImage(bzImage(code, { jump: (0x238 - 0x202) * 256 + 0xeb }))
    expect(header.get('xloadflags')).toBe(0b11)
    expect(header.get('cmdline_size')).toBe(0)
    expect(header.get('pref_address')).toBe(0)
  })

  it('needs the memory that the kernel needs to start', () => {
    const small = PlainMemory.ofSize(16 * MIB + 64 * 1024)
    expectLoaderError(
      'ERR_KERNEL_DOES_NOT_FIT',
      () => loadBzImage(small, bzImage(code)),
      /needs 1 MiB of guest memory at 0x1000000-0x10fffff, but the guest has 16.1 MiB/,
    )
    expect(small.writes).toBe(0)
    expect(loadBzImage(small, bzImage(code, { init_size: 64 * 1024 })).kernelEnd).toBe(16 * MIB + 64 * 1024)
  })

  it('loads nowhere below high memory', () => {
    const low = bzImage(code, { pref_address: 0x10000 })
    expectLoaderError('ERR_KERNEL_TOO_LOW', () => loadBzImage(memory, low))
    expectLoaderError('ERR_KERNEL_TOO_LOW', () =>
      loadBzImage(memory, bzImage(code), { highmemStart: 0x1000001 }),
    )
    expect(loadBzImage(memory, low, { highmemStart: 0 }).kernelStart).toBe(0x10000)
  })

  it.each([
    ['another magic number', { header: 0x12345678 }, 'ERR_KERNEL_UNKNOWN'],
    ['no boot flag', { boot_flag: 0 }, 'ERR_KERNEL_UNKNOWN'],
    ['a protocol before 2.12', { version: 0x20b }, 'ERR_KERNEL_32BIT'],
    ['a protocol before 2.00', { version: 0x1ff }, 'ERR_KERNEL_32BIT'],
    ['a 32-bit kernel', { xloadflags: 0 }, 'ERR_KERNEL_32BIT'],
    ['a zImage', { loadflags: 0 }, 'ERR_KERNEL_INVALID'],
    ['more setup sectors than the file has', { setup_sects: 255 }, 'ERR_KERNEL_TRUNCATED'],
    ['a larger kernel than the file has', { syssize: 0xffff_ffff }, 'ERR_KERNEL_TRUNCATED'],
    ['a kernel without an entry point', { syssize: 0x200 / 16 }, 'ERR_KERNEL_TRUNCATED'],
    ['an address beyond 2^53', { pref_address: 2 ** 60 }, 'ERR_KERNEL_INVALID'],
  ] as const)('refuses %s', (_, fields, code_) => {
    const base = bzImage(code)
    const image = bzImage(code, fields)
    // Only the header differs: the file stays as it was.
    base.set(image.subarray(0x1f1, 0x26c), 0x1f1)
    memory.writes = 0
    expectLoaderError(code_, () => loadBzImage(memory, base))
    expect(memory.writes).toBe(0)
  })

  it('refuses a file cut short anywhere', () => {
    const image = bzImage(code)
    for (let size = 0; size < image.length - 15; size++) {
      const code_ = size < 0x26c ? 'ERR_KERNEL_UNKNOWN' : 'ERR_KERNEL_TRUNCATED'
      expectLoaderError(code_, () => loadBzImage(memory, image.subarray(0, size)))
    }
  })
})

describe('loadKernel', () => {
  it('finds out what an image is', async () => {
    const elf = elfImage(2 * MIB, [{ paddr: 2 * MIB, bytes: code }])
    expect(await loadKernel(memory, elf)).toMatchObject({ kind: 'elf', protocol: 'linux64' })
    expect(await loadKernel(memory, bzImage(code))).toMatchObject({ kind: 'bzimage' })
    expect(await loadKernel(memory, code, { format: 'flat' })).toMatchObject({
      kind: 'flat',
      protocol: 'flat',
    })
    expect(await loadKernel(memory, elf, { format: 'flat', address: 0x8000 })).toMatchObject({
      kernelStart: 0x8000,
    })
  })

  it('refuses what is no kernel', async () => {
    await expectRejection('ERR_KERNEL_UNKNOWN', loadKernel(memory, new Uint8Array(0)), /it is empty/)
    await expectRejection(
      'ERR_KERNEL_UNKNOWN',
      loadKernel(memory, Buffer.from('#!/bin/sh\n')),
      /its 10 bytes begin with 23 21 2f 62 69 6e 2f 73/,
    )
  })
})
