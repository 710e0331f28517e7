/**
 * Networks for virtio-net: an in-memory switch. Plain TypeScript; taps are in `@vmm/net/tap`.
 * @packageDocumentation
 */
export { formatMac, isDeviceMac, parseMac, randomMac } from '@vmm/devices/virtio'
export { NetError, type NetErrorCode } from './error.ts'
export type { PortCounters } from './switch/counters.ts'
export { type PortOptions, SwitchPort } from './switch/port.ts'
export { Switch, type SwitchOptions } from './switch/switch.ts'
export { UserPort, type UserPortOptions } from './switch/user-port.ts'
