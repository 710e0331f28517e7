import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { expect, test } from 'vitest'
import { readConnect } from '../src/handshake.ts'

const PATIENCE_MS = 60_000

/** What a client has said before anybody reads, in pieces that come one at a time, as from Node.js 26 on those of any socket do. */
function saying(...pieces: readonly string[]): Socket {
  const socket = new Duplex({ readableObjectMode: true, read() {} })
  for (const piece of pieces) socket.push(Buffer.from(piece))
  return socket as Socket
}

test.each([
  ['in one piece', ['CONNECT 52\n']],
  ['byte by byte', [...'CONNECT 52\n']],
  ['with what follows it', ['CONN', 'ECT 52\nand', ' more']],
])('a line is read %s', async (_how, pieces) => {
  const socket = saying(...pieces)
  expect(await readConnect(socket, PATIENCE_MS)).toBe(52)
  const rest: string[] = []
  for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) rest.push(String(chunk))
  expect(rest.join('')).toBe(pieces.join('').slice('CONNECT 52\n'.length))
})

test('a line that never ends is refused', async () => {
  expect(await readConnect(saying(...'CONNECT '.padEnd(40, '5')), PATIENCE_MS)).toBeUndefined()
})
