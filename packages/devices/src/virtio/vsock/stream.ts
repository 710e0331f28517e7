/**
 * A connection as a Node stream: what `net.Socket` is for TCP. What is written is sent as the guest has room for it; what
 * nobody reads stays in a buffer of bounded size, and the guest waits.
 */
import type { Buffer } from 'node:buffer'
import { Duplex } from 'node:stream'
import type { Connection } from './connection.ts'
import type { WriteChunk } from './send-buffer.ts'

/** How long a connection that was closed waits for the guest to agree, in milliseconds. As long as Linux does. */
const LINGER_MS = 8000

/** How a stream behaves. */
export interface VsockStreamOptions {
  /**
   * Whether the stream can still be written to when the guest has ended its side. Default false: it then ends as well, as
   * those of `node:net` do.
   */
  readonly allowHalfOpen?: boolean | undefined
}

/**
 * One connection to the guest. Its errors have the codes of Node's sockets: `ECONNRESET`, `EPIPE`. Where the guest has closed its
 * end while somebody reads what it has sent, what is written goes nowhere, and is `EPIPE` when that has been read.
 *
 * `end()` tells the guest that no more will come (SHUTDOWN), and the guest's doing so is `'end'`. `destroy()` closes both
 * sides; with an error, it resets the connection. It can stand in for a `net.Socket` where HTTP wants one:
 * `server.emit('connection', stream)`.
 */
export class VsockStream extends Duplex {
  /** The host's port. */
  readonly localPort: number
  /** The guest's port. */
  readonly remotePort: number
  /** The guest's CID. */
  readonly remoteCid: number
  readonly #connection: Connection
  #bytesRead = 0
  #bytesWritten = 0
  #idle: NodeJS.Timeout | undefined

  /** @internal */
  constructor(connection: Connection, remoteCid: number, options: VsockStreamOptions = {}) {
    // One chunk at a time: the others are in the connection's buffer, where small ones are put together.
    super({ allowHalfOpen: options.allowHalfOpen ?? false, readableHighWaterMark: 1 })
    this.localPort = connection.hostPort
    this.remotePort = connection.guestPort
    this.remoteCid = remoteCid
    this.#connection = connection
    connection.attach(this)
  }

  /** Bytes that came from the guest. */
  get bytesRead(): number {
    return this.#bytesRead
  }

  /** Bytes that went to the guest. */
  get bytesWritten(): number {
    return this.#bytesWritten
  }

  override push(chunk: unknown, encoding?: BufferEncoding): boolean {
    if (chunk !== null) {
      this.#bytesRead += (chunk as Uint8Array).length
      this.#idle?.refresh()
    }
    return super.push(chunk, encoding)
  }

  override _read(): void {
    this.#connection.read()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#send(chunk, chunk.length, callback)
  }

  override _writev(chunks: WriteChunk[], callback: (error?: Error | null) => void): void {
    let length = 0
    for (const { chunk } of chunks) length += chunk.length
    this.#send(chunks, length, callback)
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#connection.finish(callback)
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    clearTimeout(this.#idle)
    this.#connection.end(error, LINGER_MS)
    callback(error)
  }

  /**
   * Emits `'timeout'` when nothing was read or written for so long. The stream goes on.
   * @param ms 0 for never, as it is at the beginning
   * @param callback called once, on the first `'timeout'`
   */
  setTimeout(ms: number, callback?: () => void): this {
    clearTimeout(this.#idle)
    this.#idle = ms > 0 ? setTimeout(() => this.emit('timeout'), ms).unref() : undefined
    if (callback !== undefined) {
      if (ms > 0) this.once('timeout', callback)
      else this.off('timeout', callback)
    }
    return this
  }

  /** Does nothing: for what expects a `net.Socket`. */
  setKeepAlive(): this {
    return this
  }

  /** Does nothing: for what expects a `net.Socket`. */
  setNoDelay(): this {
    return this
  }

  /** Does nothing: a connection does not keep the process alive. For what expects a `net.Socket`. */
  ref(): this {
    return this
  }

  /** Does nothing: see {@link ref}. */
  unref(): this {
    return this
  }

  #send(chunk: Uint8Array | WriteChunk[], length: number, callback: (error?: Error | null) => void): void {
    this.#idle?.refresh()
    this.#connection.write(chunk, (error) => {
      if (error == null) this.#bytesWritten += length
      callback(this.#isBeingRead ? null : error)
    })
  }

  /** An error would destroy the stream, and with it what the guest has sent before it was gone. */
  get #isBeingRead(): boolean {
    return this.readableFlowing !== null && (this.readableLength > 0 || this.#connection.hasUnread)
  }
}
