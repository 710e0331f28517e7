/**
 * What guest memory costs the host: its proportional set size. Pages of private anonymous memory are shared with nobody, so that
 * it is what is resident; /proc/self/smaps would count neighbours with it, whose mappings the kernel merges with its own.
 */
export { residentKib as guestPssKib } from '../../examples/example-vmm/src/resident.ts'
