/** A small kernel and the tools that Linux's build compresses one with, as scripts/Makefile.lib calls them. */

import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import type { Compression } from '../src/decompress/decompress.ts'
import type { SetupHeaderField } from '../src/setup-header.ts'
import { bzImage, concat, elfImage, elfNote, PT_NOTE } from './images.ts'

export const TOOLS: Readonly<Record<Compression, readonly [string, ...string[]]>> = {
  gzip: ['gzip', '-n', '-9'],
  xz: ['xz', '--check=crc32', '--x86', '--lzma2=dict=32MiB'],
  zstd: ['zstd', '-22', '--ultra', '-q'],
  lz4: ['lz4', '-l', '-9', '-q', '-', '-'],
  lzo: ['lzop', '-9'],
  bzip2: ['bzip2', '-9'],
  lzma: ['xz', '--format=lzma', '-9'],
}
export const COMPRESSIONS = Object.keys(TOOLS) as Compression[]

/** What a tool makes of some bytes; `undefined` where the tool is not installed. */
export const compress = (compression: Compression, bytes: Uint8Array): Uint8Array | undefined => {
  const [command, ...args] = TOOLS[compression]
  try {
    return execFileSync(command, args, {
      input: bytes,
      maxBuffer: 2 ** 30,
      stdio: ['pipe', 'pipe', 'ignore'],
    })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** 20 KB of calls, which the x86 filter of xz rewrites, between noise. */
const text = (): Uint8Array => {
  const bytes = new Uint8Array(20_000)
  const view = new DataView(bytes.buffer)
  let noise = 12345
  for (let i = 0; i + 16 <= bytes.length; i += 16) {
    noise = (Math.imul(noise, 1103515245) + 12345) >>> 0
    view.setUint8(i, 0xe8)
    view.setInt32(i + 1, 0x1234 - i, true)
    view.setUint32(i + 5, noise % 1000, true)
  }
  return bytes
}

export const FIXTURE_ENTRY = 0x100_0000
const pvhNote = elfNote('Xen\0', 18, Uint8Array.of(0x40, 0, 0, 1, 0, 0, 0, 0))
export const fixtureKernel: Uint8Array = elfImage(FIXTURE_ENTRY, [
  { paddr: FIXTURE_ENTRY, bytes: text(), memsz: 30_000 },
  { type: PT_NOTE, bytes: pvhNote },
])

export const fixtureUrl = (compression: Compression): URL =>
  new URL(`fixtures/kernel.${compression}`, import.meta.url)

/** The kernel as its tool compressed it, from the file that is checked in. */
export const fixture = (compression: Compression): Uint8Array =>
  existsSync(fixtureUrl(compression))
    ? new Uint8Array(readFileSync(fixtureUrl(compression)))
    : new Uint8Array(0)

/** A payload: compressed bytes and, but for gzip, which has it, the uncompressed size. */
export const payload = (compression: Compression, compressed: Uint8Array, size: number): Uint8Array => {
  const trailer = new Uint8Array(4)
  new DataView(trailer.buffer).setUint32(0, size, true)
  return concat(compression === 'gzip' ? compressed.subarray(0, -4) : compressed, trailer)
}

const PAYLOAD_OFFSET = 0x2d0

/** A bzImage around a payload. */
export const bzImageOf = (
  bytes: Uint8Array,
  fields: Readonly<Partial<Record<SetupHeaderField, number>>> = {},
): Uint8Array => {
  const kernel = new Uint8Array(Math.ceil((PAYLOAD_OFFSET + bytes.length + 100) / 16) * 16)
  kernel.set(bytes, PAYLOAD_OFFSET)
  return bzImage(kernel, { payload_offset: PAYLOAD_OFFSET, payload_length: bytes.length, ...fields })
}
