/**
 * libc's heap, which V8 uses to compile and Node.js for buffers: what they have freed stays with the process until it is asked for.
 */
import { libc } from './libc.ts'

/**
 * malloc_trim(3): gives back to the host what is free in libc's heap. Worth it once after a burst of work, as when a hundred VMs have been
 * started: it takes milliseconds, and may give back tens of megabytes.
 */
export function trimHeap(): void {
  libc().malloc_trim(0)
}
