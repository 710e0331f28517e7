/**
 * Firecracker's way to a guest's vsock, so that its clients work unchanged: whoever connects to a Unix socket and says
 * `CONNECT <port>` is put through to that port of the guest, after `OK <port of the host>`; a guest that dials port P of the
 * host is put through to the Unix socket of the same name with `_P` behind it (Firecracker, docs/vsock.md).
 */
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { VsockEndpoint, VsockEndpointRequest } from './endpoint.ts'
import { readConnect } from './handshake.ts'
import { join } from './join.ts'
import { fitsSocket, listenOn } from './listen.ts'

const HANDSHAKE_TIMEOUT_MS = 5000
/** Clients that have not been put through. */
const PENDING_MAX = 1024

/** Options of {@link UnixSocketBridge.listen}. */
export interface UnixSocketBridgeOptions {
  /** The host's side of the guest's vsock: `Vsock` of `@vmm/devices/virtio` is one. */
  readonly vsock: VsockEndpoint
  /** Of the socket to listen on: up to 107 bytes. With `_` and a port behind it, of those that the guest reaches. */
  readonly path: string
  /** How long a client may take to say what it wants, in milliseconds. Default 5000. */
  readonly handshakeTimeout?: number | undefined
  /** How long the guest may take to accept a client, in milliseconds. Default the endpoint's own: 5000 for `Vsock`. */
  readonly connectTimeout?: number | undefined
  /** Gets to know when the host cannot accept a client (EMFILE). Default: nobody does. */
  readonly onError?: ((error: Error) => void) | undefined
}

/** A listening socket, and the connections that it has put through. */
export class UnixSocketBridge implements Disposable {
  /** Of the socket that it listens on. */
  readonly path: string
  readonly #vsock: VsockEndpoint
  readonly #server: Server
  readonly #handshakeTimeout: number
  readonly #connectTimeout: number | undefined
  readonly #clients = new Set<Socket>()
  /** The guest's sides, which may be there for longer: while they have something to say to it. */
  readonly #ends = new Set<Duplex>()
  #pending = 0
  #isClosed = false

  /**
   * Listens. A socket that nobody listens on any more is replaced.
   * @throws VsockError
   */
  static async listen(options: UnixSocketBridgeOptions): Promise<UnixSocketBridge> {
    const bridge = new UnixSocketBridge(options)
    await listenOn(bridge.#server, options.path)
    bridge.#server.on('error', (error) => options.onError?.(error))
    options.vsock.onRequest((request) => bridge.#dialled(request))
    return bridge
  }

  private constructor(options: UnixSocketBridgeOptions) {
    this.path = options.path
    this.#vsock = options.vsock
    this.#handshakeTimeout = options.handshakeTimeout ?? HANDSHAKE_TIMEOUT_MS
    this.#connectTimeout = options.connectTimeout
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#accepted(socket).catch((error) => socket.destroy(error))
    })
  }

  /** Connections to clients, those included that have not said yet what they want. */
  get connections(): number {
    return this.#clients.size
  }

  /** Ends all connections, and removes the socket. Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#vsock.onRequest(undefined)
    this.#server.close()
    for (const stream of [...this.#clients, ...this.#ends]) stream.destroy()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** A client of the host. Whatever goes wrong, its connection ends: the protocol has no word for it. */
  async #accepted(socket: Socket): Promise<void> {
    this.#keep(socket)
    if (this.#isClosed || this.#pending >= PENDING_MAX) {
      socket.destroy()
      return
    }
    this.#pending += 1
    const abort = new AbortController()
    const gone = (): void => abort.abort()
    socket.once('close', gone)
    try {
      const port = await readConnect(socket, this.#handshakeTimeout)
      if (port === undefined) throw new Error('not a request')
      const stream = await this.#vsock.connect(port, {
        allowHalfOpen: true,
        signal: abort.signal,
        timeout: this.#connectTimeout,
      })
      if (socket.destroyed) {
        stream.destroy()
        return
      }
      socket.write(`OK ${stream.localPort}\n`)
      this.#join(socket, stream)
    } catch {
      socket.destroy()
    } finally {
      socket.off('close', gone)
      this.#pending -= 1
    }
  }

  /** The guest dials. */
  #dialled(request: VsockEndpointRequest): void {
    const path = `${this.path}_${request.port}`
    if (!fitsSocket(path)) {
      request.refuse()
      return
    }
    const socket = createConnection({ path, allowHalfOpen: true })
    this.#keep(socket)
    const gone = (): void => void socket.destroy()
    request.signal.addEventListener('abort', gone)
    const settled = (): void => request.signal.removeEventListener('abort', gone)
    socket.once('close', () => {
      settled()
      request.refuse()
    })
    socket.once('connect', () => {
      settled()
      const stream = request.accept({ allowHalfOpen: true })
      if (stream === undefined) socket.destroy()
      else this.#join(socket, stream)
    })
  }

  #join(socket: Socket, stream: Duplex): void {
    this.#ends.add(stream)
    stream.on('close', () => this.#ends.delete(stream))
    join(socket, stream)
  }

  #keep(socket: Socket): void {
    this.#clients.add(socket)
    socket.on('close', () => this.#clients.delete(socket))
    // Whoever is put through hears of it by the close of the other side.
    socket.on('error', () => {})
  }
}
