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
  stream.on('error', (error) => {
    if (!stream.readableEnded) other.destroy(error)
  })
  stream.on('close', () => {
    if (!stream.readableEnded) other.destroy()
    // At its end: the other one may still have to write what it was given. Whether it is heard is another matter.
    else if (!stream.writableFinished) destroyWhenWritten(other)
  })
}

function destroyWhenWritten(stream: Duplex): void {
  const destroy = (): void => void stream.destroy()
  if (stream.writableFinished) destroy()
  // What it says until then is nobody's: a socket that is closed on unread bytes is an error to its peer.
  else stream.resume().once('finish', destroy)
}
