/** From a Node stream to a UART's sixteen bytes, without losing one or holding more than the stream's own buffer. */
import type { Readable } from 'node:stream'
import type { Serial } from './serial.ts'

/** A stream that feeds a UART, until closed. */
export interface InputConnection {
  /** Stops feeding and pauses the stream. Bytes already taken from it are gone. Idempotent. */
  close(): void
  [Symbol.dispose](): void
}

/**
 * Feeds a stream to the guest as fast as the guest reads, and holds the stream back meanwhile.
 *
 * @example
 * ```ts
 * const input = connectInput(process.stdin, serial)
 * ```
 */
export function connectInput(source: Readable, serial: Serial): InputConnection {
  let pending: Uint8Array[] = []

  function pump(): void {
    for (let chunk = pending[0]; chunk !== undefined; chunk = pending[0]) {
      const count = serial.enqueue(chunk)
      if (count === chunk.length) pending.shift()
      else {
        pending[0] = chunk.subarray(count)
        source.pause()
        return
      }
    }
    source.resume()
  }

  function take(chunk: Uint8Array | string): void {
    pending.push(typeof chunk === 'string' ? Buffer.from(chunk) : chunk)
    pump()
  }

  function receiveReady(): void {
    if (pending.length !== 0) pump()
  }

  function close(): void {
    source.off('data', take)
    source.pause()
    serial.onReceiveReady(undefined)
    pending = []
  }

  serial.onReceiveReady(receiveReady)
  source.on('data', take)
  return { close, [Symbol.dispose]: close }
}
