/**
 * How much of guest memory the host has given a page to: /proc/self/pagemap, Documentation/admin-guide/mm/pagemap.rst.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import type { GuestMemory } from '@vmm/vm-memory'

const PAGE_SIZE = 4096
const ENTRY_SIZE = 8
/** Bit 63 of an entry, the sign of its last byte: the page is in RAM. */
const PRESENT = 0x80
const CHUNK_ENTRIES = 8192

/** KiB of guest memory that are in the host's RAM. */
export function residentKib(memory: GuestMemory): number {
  const fd = openSync('/proc/self/pagemap', 'r')
  const chunk = new Uint8Array(CHUNK_ENTRIES * ENTRY_SIZE)
  let pages = 0
  try {
    for (const { hostAddress, size } of memory.regions) {
      if (hostAddress === undefined) continue
      const first = (Number(hostAddress) / PAGE_SIZE) * ENTRY_SIZE
      const end = first + (size / PAGE_SIZE) * ENTRY_SIZE
      for (let at = first; at < end; at += chunk.length) {
        const length = readSync(fd, chunk, 0, Math.min(chunk.length, end - at), at)
        for (let last = ENTRY_SIZE - 1; last < length; last += ENTRY_SIZE) {
          if (((chunk[last] ?? 0) & PRESENT) !== 0) pages++
        }
      }
    }
  } finally {
    closeSync(fd)
  }
  return (pages * PAGE_SIZE) / 1024
}
