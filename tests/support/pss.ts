/**
 * What guest memory costs the host: the proportional set size of its mappings, /proc/self/smaps
 * (Documentation/filesystems/proc.rst).
 */
import { readFileSync } from 'node:fs'
import type { GuestMemory } from '@vmm/vm-memory'

/** In KiB, of a VM in this process. */
export function guestPssKib(memory: GuestMemory): number {
  const ranges = memory.regions.map(
    ({ hostAddress = 0n, size }) => [hostAddress, hostAddress + BigInt(size)] as const,
  )
  let isGuest = false
  let total = 0
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    const [, from, to] = /^([\da-f]+)-([\da-f]+) /.exec(line) ?? []
    if (from !== undefined && to !== undefined) {
      isGuest = ranges.some(([start, end]) => BigInt(`0x${from}`) < end && BigInt(`0x${to}`) > start)
    }
    const [, pss] = /^Pss: +(\d+) kB/.exec(line) ?? []
    if (isGuest && pss !== undefined) total += Number(pss)
  }
  return total
}
