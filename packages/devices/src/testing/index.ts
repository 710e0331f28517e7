/**
 * For tests and benches of programs on these devices: a guest's driver without a guest.
 * @packageDocumentation
 */
export {
  type FuseAttributes,
  FuseClient,
  type FuseDirent,
  type FuseEntry,
  FuseError,
  type FuseReply,
  fuseArguments,
  parseAttributes,
  parseDirents,
  parseEntry,
} from './fuse-client.ts'
export { MOCK_QUEUE_BYTES, MockTransport } from './mock-transport.ts'
export { MockVsockGuest, type MockVsockGuestOptions, type MockVsockPacket } from './vsock-guest.ts'
export { MockVsockSocket } from './vsock-socket.ts'
