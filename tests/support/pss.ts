/**
 * What guest memory costs the host: its proportional set size. Pages of private anonymous memory are shared with nobody, so that
 * it is what is resident; /proc/self/smaps would count neighbours with it, whose mappings the kernel merges with its own.
 */
import type { GuestMemory } from '@vmm/vm-memory'
import { residentRuns } from '@vmm/vm-memory/mmap'

/** In KiB, of a VM in this process. */
export function guestPssKib(memory: GuestMemory): number {
  const runs = memory.regions.flatMap((region) => residentRuns(region))
  return runs.reduce((sum, { size }) => sum + size, 0) / 1024
}
