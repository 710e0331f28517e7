/** How much of guest memory the host has given a page to. */
import type { GuestMemory } from '@vmm/vm-memory'
import { residentRuns } from '@vmm/vm-memory/mmap'

/** KiB of guest memory that are in the host's RAM. */
export function residentKib(memory: GuestMemory): number {
  const runs = memory.regions.flatMap((region) => residentRuns(region))
  return runs.reduce((sum, { size }) => sum + size, 0) / 1024
}
