/**
 * From a Node stream to a UART's sixteen bytes, without losing one or holding more than the stream's own
 * buffer.
 *
 * A guest cannot be fed as fast as it reads. Linux reads in its interrupt handler until the FIFO is empty;
 * while that is filled behind its back, the handler goes on, nobody consumes what it has read, and beyond 64
 * KiB it is dropped. A real line leaves it time in between, and so does this: after the guest has emptied the
 * FIFO it gets three times as long as that took it, whatever the host's speed.
 */
import type { Readable } from 'node:stream'
import { type Clock, NODE_TIMERS, type PendingCall, type Timers } from '../../host.ts'
import type { Serial } from './serial.ts'

/** What the guest gets for other work, in units of the time it took to empty the FIFO. */
const REST_FACTOR = 3
/** Bounds of the rest, in milliseconds. */
const REST_MIN_MS = 1
const REST_MAX_MS = 100

/** A stream that feeds a UART, until closed. */
export interface InputConnection {
  /** Stops feeding and pauses the stream. Bytes already taken from it are gone. Idempotent. */
  close(): void
  [Symbol.dispose](): void
}

/** Options of {@link connectInput}. */
export interface InputOptions {
  /** Milliseconds from any zero; `performance` unless given. */
  readonly clock?: Clock | undefined
  /** Node's timers unless given. */
  readonly timers?: Timers | undefined
}

/**
 * Feeds a stream to the guest at the pace at which the guest reads, and holds the stream back meanwhile. What
 * is typed arrives at once; a paste takes at most the guest's buffers, and with `flowControl: 'rts'` and
 * `stty crtscts` in the guest not even those.
 *
 * @example
 * ```ts
 * const input = connectInput(process.stdin, serial)
 * ```
 */
export function connectInput(source: Readable, serial: Serial, options: InputOptions = {}): InputConnection {
  const clock = options.clock ?? performance
  const timers = options.timers ?? NODE_TIMERS
  let pending: Uint8Array[] = []
  let filledAt = 0
  let notBefore = 0
  let rest: PendingCall | undefined

  function feed(): void {
    if (rest !== undefined) return
    for (let chunk = pending[0]; chunk !== undefined; chunk = pending[0]) {
      const now = clock.now()
      if (now < notBefore) {
        rest = timers.after(notBefore - now, endRest)
        source.pause()
        return
      }
      const count = serial.enqueue(chunk)
      if (count !== 0) filledAt = now
      if (count === chunk.length) pending.shift()
      else {
        pending[0] = chunk.subarray(count)
        source.pause()
        return
      }
    }
    source.resume()
  }

  function endRest(): void {
    rest = undefined
    feed()
  }

  function take(chunk: Uint8Array | string): void {
    pending.push(typeof chunk === 'string' ? Buffer.from(chunk) : chunk)
    feed()
  }

  function receiveReady(): void {
    const now = clock.now()
    notBefore = now + Math.min(Math.max(REST_MIN_MS, REST_FACTOR * (now - filledAt)), REST_MAX_MS)
    if (pending.length !== 0) feed()
  }

  function close(): void {
    rest?.cancel()
    source.off('data', take)
    source.pause()
    serial.onReceiveReady(undefined)
    pending = []
  }

  serial.onReceiveReady(receiveReady)
  source.on('data', take)
  return { close, [Symbol.dispose]: close }
}
