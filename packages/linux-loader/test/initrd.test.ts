import { describe, expect, it } from 'vitest'
import { loadInitrd } from '../src/initrd.ts'
import type { LoadedKernel } from '../src/loaded-kernel.ts'
import { SetupHeader } from '../src/setup-header.ts'
import { expectLoaderError } from './expect-error.ts'
import { pattern } from './images.ts'
import { PlainMemory } from './plain-memory.ts'

const MIB = 2 ** 20
const kernelAt = (kernelStart: number, kernelEnd: number, initrdAddrMax?: number): LoadedKernel => {
  const setupHeader = new SetupHeader()
  setupHeader.set('initrd_addr_max', initrdAddrMax ?? 0)
  return {
    kind: 'elf',
    protocol: 'linux64',
    entry: kernelStart,
    kernelStart,
    kernelEnd,
    pvhEntry: undefined,
    setupHeader: initrdAddrMax === undefined ? undefined : setupHeader,
  }
}
const image = pattern(5000)

describe('loadInitrd', () => {
  it('goes to the last whole pages of low memory', () => {
    const memory = PlainMemory.ofSize(8 * MIB + 4096)
    const range = loadInitrd(memory, image, { kernel: kernelAt(MIB, 2 * MIB) })
    expect(range).toEqual({ start: 8 * MIB - 4096, size: 5000 })
    expect(memory.read(range.start, range.size)).toEqual(image)
  })

  it('stays within what the kernel can address', () => {
    const memory = PlainMemory.ofSize(8 * MIB)
    const kernel = kernelAt(MIB, 2 * MIB, 4 * MIB - 1)
    expect(loadInitrd(memory, image, { kernel }).start).toBe(4 * MIB - 8192)
    expect(loadInitrd(memory, pattern(4096), { kernel }).start).toBe(4 * MIB - 4096)
  })

  it('uses low memory alone, however much there is', () => {
    const regions = [
      { start: 0, size: 4 * MIB },
      { start: 2 ** 32, size: 4 * MIB },
    ]
    const kernel = kernelAt(MIB, 2 * MIB)
    expect(loadInitrd(new PlainMemory(regions), image, { kernel }).start).toBe(4 * MIB - 8192)
  })

  it('goes below a kernel or a reserved range that lies at the end', () => {
    const memory = PlainMemory.ofSize(16 * MIB)
    const kernel = kernelAt(12 * MIB + 100, 16 * MIB)
    expect(loadInitrd(memory, image, { kernel }).start).toBe(12 * MIB - 8192)
    const reserved = [
      { start: 9 * MIB, size: MIB },
      { start: 10 * MIB, size: 2 * MIB + 100 },
    ]
    expect(loadInitrd(memory, image, { kernel, reserved }).start).toBe(9 * MIB - 8192)
  })

  it('may lie over the border between regions that adjoin', () => {
    const memory = new PlainMemory([
      { start: 0, size: 3 * MIB },
      { start: 3 * MIB, size: MIB },
    ])
    const range = loadInitrd(memory, pattern(2 * MIB), { kernel: kernelAt(MIB, 2 * MIB) })
    expect(range.start).toBe(2 * MIB)
    expect(Buffer.compare(memory.read(2 * MIB, 2 * MIB), pattern(2 * MIB))).toBe(0)
  })

  it('takes the region below when the one above is too small', () => {
    const memory = new PlainMemory([
      { start: 0, size: 4 * MIB },
      { start: 8 * MIB, size: 4096 },
    ])
    expect(loadInitrd(memory, image, { kernel: kernelAt(MIB, 2 * MIB) }).start).toBe(4 * MIB - 8192)
  })

  it('that does not fit is refused with its size', () => {
    const memory = PlainMemory.ofSize(4 * MIB)
    const kernel = kernelAt(MIB, 3 * MIB)
    expectLoaderError(
      'ERR_INITRD_DOES_NOT_FIT',
      () => loadInitrd(memory, new Uint8Array(MIB + 1), { kernel }),
      /the initrd has 1.0 MiB, but the 4 MiB of guest memory .* kernel \(2 MiB\)/,
    )
    expectLoaderError('ERR_INITRD_DOES_NOT_FIT', () =>
      loadInitrd(memory, new Uint8Array(8 * MIB), { kernel }),
    )
    expect(memory.writes).toBe(0)
    expect(loadInitrd(memory, new Uint8Array(MIB), { kernel }).start).toBe(3 * MIB)
  })

  it('never goes below 1 MiB, and is not empty', () => {
    const memory = PlainMemory.ofSize(2 * MIB)
    expectLoaderError('ERR_INITRD_DOES_NOT_FIT', () =>
      loadInitrd(memory, image, { kernel: kernelAt(MIB, 2 * MIB) }),
    )
    expectLoaderError('ERR_INITRD_EMPTY', () =>
      loadInitrd(memory, new Uint8Array(0), { kernel: kernelAt(0, 1) }),
    )
  })
})
