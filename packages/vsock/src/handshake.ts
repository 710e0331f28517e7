/** The first line of a client: `CONNECT <port>\n`, in bounded length and time. */
import { Buffer } from 'node:buffer'
import type { Socket } from 'node:net'

/** The longest that makes sense has 19 bytes. */
const LINE_MAX_BYTES = 32
const NEWLINE = 0x0a
const CONNECT = /^CONNECT ([0-9]{1,10})\r?$/i

/**
 * Reads the line. What follows it stays in the socket.
 * @returns the port; undefined for any other line, and where the client has gone or takes too long
 */
export function readConnect(socket: Socket, timeoutMs: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    let line = Buffer.alloc(0)
    const finish = (port?: number): void => {
      clearTimeout(timer)
      socket.off('readable', read)
      socket.off('end', giveUp)
      socket.off('close', giveUp)
      resolve(port)
    }
    const giveUp = (): void => finish()
    const read = (): void => {
      let end = -1
      while (end < 0 && line.length < LINE_MAX_BYTES) {
        // One chunk from Node.js 26 on, and nothing tells of the next.
        const chunk: Buffer | null = socket.read()
        if (chunk === null) return
        line = Buffer.concat([line, chunk])
        end = line.indexOf(NEWLINE)
      }
      if (end < 0 || end > LINE_MAX_BYTES) {
        finish()
        return
      }
      if (end + 1 < line.length) socket.unshift(line.subarray(end + 1))
      finish(portOf(line.toString('latin1', 0, end)))
    }
    const timer = setTimeout(giveUp, timeoutMs)
    socket.on('readable', read)
    socket.on('end', giveUp)
    socket.on('close', giveUp)
  })
}

function portOf(line: string): number | undefined {
  const [, digits] = CONNECT.exec(line) ?? []
  const port = Number(digits)
  return port < 2 ** 32 - 1 ? port : undefined
}
