/**
 * For tests and benches of programs on these devices: a guest's driver without a guest.
 * @packageDocumentation
 */
export { MockVsockGuest, type MockVsockGuestOptions, type MockVsockPacket } from './vsock-guest.ts'
export { MockVsockSocket } from './vsock-socket.ts'
