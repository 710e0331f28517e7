/** How much of guest memory the host has given a page of its own to. */
import type { GuestMemory } from '@vmm/vm-memory'
import { privateRuns } from '@vmm/vm-memory/mmap'

/** KiB of guest memory that nothing else has: not what a restored VM shares with its snapshot. */
export function residentKib(memory: GuestMemory): number {
  const runs = memory.regions.flatMap((region) => privateRuns(region))
  return runs.reduce((sum, { size }) => sum + size, 0) / 1024
}
