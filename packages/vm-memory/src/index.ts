/**
 * Guest physical memory: regions, access by guest address, dirty tracking. Pure JavaScript; mapped memory is in
 * `@vmm/vm-memory/mmap`.
 * @packageDocumentation
 */
export type { GuestAddress } from './address.ts'
export {
  addressFromWords,
  alignDown,
  alignUp,
  checkedAdd,
  checkedSub,
  GUEST_ADDRESS_MAX,
  guestAddress,
  offsetFrom,
} from './address.ts'
export type { RegionLookup } from './cursor.ts'
export { RangeCursor } from './cursor.ts'
export type { DirtyRange } from './dirty.ts'
export { DirtyBitmap } from './dirty.ts'
export type { MemoryErrorCode, MemoryErrorDetails } from './errors.ts'
export { MemoryError } from './errors.ts'
export type { RegionAddress, RegionMap } from './map.ts'
export type { PlainMemoryOptions } from './memory.ts'
export { GuestMemory } from './memory.ts'
export type { MemoryRange } from './range.ts'
export type { FileRange, GuestRegionOptions, LazyBytes } from './region.ts'
export { GuestRegion, REGION_ALIGNMENT, REGION_SIZE_MAX } from './region.ts'
