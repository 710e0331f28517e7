/**
 * `@vmm/net/tap`: taps of the host's kernel as networks of virtio-net. Needs `@vmm/sys-util`.
 * @packageDocumentation
 */
export { NetError, type NetErrorCode } from './error.ts'
export { openTap, type TapOptions } from './tap/open.ts'
export { Tap } from './tap/tap.ts'
