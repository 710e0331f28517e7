/** Two streams as one connection: what one reads the other writes, each side ends by itself, and they fail together. */
import type { Duplex } from 'node:stream'

/** Both are half-open streams. */
export function join(a: Duplex, b: Duplex): void {
  follow(a, b)
  follow(b, a)
  a.pipe(b)
  b.pipe(a)
}

/** What becomes of `other` when `stream` is no more. */
function follow(stream: Duplex, other: Duplex): void {
  stream.on('error', (error) => other.destroy(error))
  stream.on('close', () => {
    // At its end both ways: the other one may still have to write what it was given.
    if (!(stream.readableEnded && stream.writableFinished)) other.destroy()
  })
}
