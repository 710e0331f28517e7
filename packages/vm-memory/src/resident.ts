/**
 * Which pages of guest memory there are: /proc/self/pagemap, Documentation/admin-guide/mm/pagemap.rst. Memory that was never
 * touched has none, and need not be looked at by whoever counts it or saves it.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import type { GuestRegion } from './region.ts'

const PAGE_SIZE = 4096
const ENTRY_SIZE = 8
const CHUNK_ENTRIES = 8192
/** The highest byte of an entry: bits 56 to 63. */
const FLAGS_OFFSET = 7
/** Bit 63: the page is in RAM. */
const PRESENT = 0x80
/** Bit 62: the page is in swap. */
const SWAPPED = 0x40
/** Bit 61: the page is the file's, or shared. */
const OF_FILE = 0x20

/** Pages one after another. */
export interface PageRun {
  /** Of the first page, in bytes from the start of the region. */
  readonly offset: number
  /** In bytes. */
  readonly size: number
}

/**
 * The pages of a region that are in RAM: of anonymous memory those that the host has spent something on.
 * @param region of mapped memory; others have no pages of their own, and give none
 */
export function residentRuns(region: GuestRegion): PageRun[] {
  return runs(region, (flags) => (flags & PRESENT) !== 0)
}

/** The pages of a region that are in RAM or in swap: the rest of anonymous memory is zeros that nobody has touched. */
export function touchedRuns(region: GuestRegion): PageRun[] {
  return runs(region, (flags) => (flags & (PRESENT | SWAPPED)) !== 0)
}

/**
 * The pages of a region that are nobody else's: where a file is mapped privately, those that were written since, by whomever: the
 * guest, devices, system calls. The rest is as in the file.
 */
export function privateRuns(region: GuestRegion): PageRun[] {
  return runs(region, (flags) => (flags & SWAPPED) !== 0 || (flags & (PRESENT | OF_FILE)) === PRESENT)
}

function runs({ hostAddress, size }: GuestRegion, isMeant: (flags: number) => boolean): PageRun[] {
  if (hostAddress === undefined) return []
  const found: PageRun[] = []
  const chunk = new Uint8Array(CHUNK_ENTRIES * ENTRY_SIZE)
  const fd = openSync('/proc/self/pagemap', 'r')
  try {
    let runStart = -1
    const first = (Number(hostAddress) / PAGE_SIZE) * ENTRY_SIZE
    const pages = size / PAGE_SIZE
    for (let page = 0; page < pages; page += CHUNK_ENTRIES) {
      const count = Math.min(CHUNK_ENTRIES, pages - page)
      readSync(fd, chunk, 0, count * ENTRY_SIZE, first + page * ENTRY_SIZE)
      for (let i = 0; i < count; i += 1) {
        const isThere = isMeant(chunk[i * ENTRY_SIZE + FLAGS_OFFSET] as number)
        const offset = (page + i) * PAGE_SIZE
        if (isThere && runStart < 0) runStart = offset
        if (!isThere && runStart >= 0) {
          found.push({ offset: runStart, size: offset - runStart })
          runStart = -1
        }
      }
    }
    if (runStart >= 0) found.push({ offset: runStart, size: size - runStart })
    return found
  } finally {
    closeSync(fd)
  }
}
