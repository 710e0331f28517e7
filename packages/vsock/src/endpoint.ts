/** What the bridge asks of a vsock device. `Vsock` of `@vmm/devices/virtio` fits, and so does anything of this shape. */
import type { Duplex } from 'node:stream'

/** The host's end of a connection. */
export type HostEnd = Duplex & {
  /** The host's port. */
  readonly localPort: number
}

/** A connection that the guest asks for. One answer. */
export interface VsockEndpointRequest {
  /** The host's port: what the guest dials. */
  readonly port: number
  /** Aborted when the guest does not wait any more. */
  readonly signal: AbortSignal
  /** Undefined where the guest does not wait any more. */
  accept(options: { readonly allowHalfOpen: boolean }): HostEnd | undefined
  /** The guest is told that nobody listens. */
  refuse(): void
}

/** The host's side of a guest's vsock. */
export interface VsockEndpoint {
  /** Rejects where the guest does not accept, in bounded time. */
  connect(
    port: number,
    options: {
      readonly allowHalfOpen: boolean
      readonly signal: AbortSignal
      /** In milliseconds; undefined for the endpoint's own. */
      readonly timeout: number | undefined
    },
  ): Promise<HostEnd>
  /** Who is asked about ports that nobody listens on. */
  onRequest(onRequest: ((request: VsockEndpointRequest) => void) | undefined): void
}
