/**
 * A guest's vsock behind Unix sockets, by Firecracker's protocol.
 * @packageDocumentation
 */
export { UnixSocketBridge, type UnixSocketBridgeOptions } from './bridge.ts'
export type { HostEnd, VsockEndpoint, VsockEndpointRequest } from './endpoint.ts'
export { VsockError, type VsockErrorCode } from './error.ts'
export { UNIX_PATH_MAX_BYTES } from './listen.ts'
