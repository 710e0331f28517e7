import { writeFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { loadKernel } from '../src/load-kernel.ts'
import { LoaderError } from '../src/loader-error.ts'
import { unpackBzImage } from '../src/unpack-bzimage.ts'
import { expectRejection } from './expect-error.ts'
import { concat, elfImage, noise } from './images.ts'
import {
  bzImageOf,
  COMPRESSIONS,
  compress,
  FIXTURE_ENTRY,
  fixture,
  fixtureKernel,
  fixtureUrl,
  payload,
  TOOLS,
} from './payloads.ts'
import { PlainMemory } from './plain-memory.ts'

const MIB = 2 ** 20
const SIZE = fixtureKernel.length
const { MAKE_FIXTURES } = process.env

// MAKE_FIXTURES=1 makes the checked-in files again, with the tools that this host has.
if (MAKE_FIXTURES !== undefined)
  for (const compression of COMPRESSIONS) {
    const bytes = compress(compression, fixtureKernel)
    if (bytes !== undefined) writeFileSync(fixtureUrl(compression), bytes)
  }

describe.each(COMPRESSIONS)('a bzImage compressed with %s', (compression) => {
  const compressed = fixture(compression)
  const unpack = (bytes: Uint8Array, size = SIZE) =>
    unpackBzImage(bzImageOf(payload(compression, bytes, size)))

  it('unpacks', async () => {
    const { elf, compression: found, setupHeader } = await unpack(compressed)
    expect(found).toBe(compression)
    expect(Buffer.compare(elf, fixtureKernel)).toBe(0)
    expect(setupHeader.get('version')).toBe(0x20f)
  })

  it('must become as large as it says', async () => {
    await expectRejection('ERR_PAYLOAD_CORRUPT', unpack(compressed, SIZE - 1), /promises/)
    await expectRejection('ERR_PAYLOAD_CORRUPT', unpack(compressed, SIZE + 1))
    await expectRejection('ERR_PAYLOAD_CORRUPT', unpack(compressed, 0))
  })

  it('must not become larger than the limit', async () => {
    const image = bzImageOf(payload(compression, compressed, 0xffff_ffff))
    await expectRejection(
      'ERR_PAYLOAD_TOO_LARGE',
      unpackBzImage(image),
      /becomes 4096.0 MiB, but at most 1024 MiB/,
    )
    const unlimited = unpackBzImage(image, { maxSize: Number.POSITIVE_INFINITY })
    await expectRejection('ERR_PAYLOAD_TOO_LARGE', unlimited, /at most 1024 MiB/)
    const fair = bzImageOf(payload(compression, compressed, SIZE))
    await expectRejection('ERR_PAYLOAD_TOO_LARGE', unpackBzImage(fair, { maxSize: SIZE - 1 }))
    expect((await unpackBzImage(fair, { maxSize: SIZE })).elf.length).toBe(SIZE)
  })

  it('cut short or damaged ends in a LoaderError', async () => {
    for (const end of [8, 20, 40, 100, 1000, compressed.length - 9])
      await expectRejection('ERR_PAYLOAD_CORRUPT', unpack(compressed.subarray(0, end)))
    for (let at = 7; at < compressed.length; at += Math.ceil(compressed.length / 40)) {
      const damaged = compressed.slice()
      damaged[at] = (damaged[at] ?? 0) ^ 0xff
      // Not every format has checksums.
      const result = await unpack(damaged).catch((error: unknown) => error)
      if (result instanceof Error) expect(result).toBeInstanceOf(LoaderError)
      else expect(result).toMatchObject({ elf: { length: SIZE } })
    }
  })

  const large = concat(fixtureKernel, new Uint8Array(17 * MIB), noise(MIB), fixtureKernel.subarray(0, 1001))
  const fresh = compress(compression, large)
  const tool = TOOLS[compression][0]
  // The files that are checked in are tested all the same.
  if (fresh === undefined)
    console.warn(`skipped: what ${tool} makes of a large kernel, as there is no ${tool}`)
  it.skipIf(fresh === undefined)(`unpacks what ${tool} makes of a kernel of several blocks`, async () => {
    const { elf } = await unpack(fresh ?? new Uint8Array(0), large.length)
    expect(Buffer.compare(elf, large)).toBe(0)
  })

  it.skipIf(fresh === undefined)('stops at the size that it says, however much there is', async () => {
    const message = ['xz', 'lzma', 'bzip2'].includes(compression) ? /there are more/ : undefined
    const stopped = unpack(fresh ?? new Uint8Array(0), 100_000)
    await expectRejection('ERR_PAYLOAD_CORRUPT', stopped, message)
  })
})

describe('unpackBzImage', () => {
  it('refuses a payload of unknown compression', async () => {
    await expectRejection('ERR_PAYLOAD_UNKNOWN', unpackBzImage(bzImageOf(new Uint8Array(64))), /00 00 00/)
    await expectRejection('ERR_PAYLOAD_UNKNOWN', unpackBzImage(bzImageOf(Uint8Array.of(0x1f, 0x8b))))
  })

  it('refuses a payload outside the kernel', async () => {
    const bytes = gzipSync(fixtureKernel)
    for (const fields of [
      { payload_length: 0 },
      { payload_length: 0xffff_ffff },
      { payload_offset: 0xffff_ffff },
    ])
      await expectRejection('ERR_KERNEL_INVALID', unpackBzImage(bzImageOf(bytes, fields)))
  })
})

describe('loadKernel with unpack', () => {
  it('loads the ELF file inside and hands on the setup header', async () => {
    const memory = PlainMemory.ofSize(32 * MIB)
    const image = bzImageOf(payload('gzip', gzipSync(fixtureKernel), SIZE))
    const kernel = await loadKernel(memory, image, { unpack: true })
    expect(kernel).toMatchObject({
      kind: 'elf',
      protocol: 'linux64',
      entry: FIXTURE_ENTRY,
      kernelStart: FIXTURE_ENTRY,
      kernelEnd: FIXTURE_ENTRY + 30_000,
      pvhEntry: FIXTURE_ENTRY + 0x40,
    })
    expect(kernel.setupHeader?.get('cmdline_size')).toBe(2047)
    expect(memory.read(FIXTURE_ENTRY, 5)).toEqual(Uint8Array.of(0xe8, 0x34, 0x12, 0, 0))
  })

  it('unpacks no more than the guest has RAM', async () => {
    const memory = new PlainMemory([{ start: 0, size: SIZE - 1 }])
    const image = bzImageOf(payload('gzip', gzipSync(fixtureKernel), SIZE))
    await expectRejection('ERR_PAYLOAD_TOO_LARGE', loadKernel(memory, image, { unpack: true }))
  })

  it('refuses a payload that is no kernel', async () => {
    const memory = PlainMemory.ofSize(32 * MIB)
    const foreign = elfImage(0, [])
    new DataView(foreign.buffer).setUint16(18, 183, true)
    const image = bzImageOf(gzipSync(foreign))
    await expectRejection('ERR_KERNEL_MACHINE', loadKernel(memory, image, { unpack: true }), /AArch64/)
  })
})
