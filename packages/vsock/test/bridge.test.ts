import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { MockVsockGuest } from '@vmm/devices/testing'
import { Vsock } from '@vmm/devices/virtio'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { UNIX_PATH_MAX_BYTES, UnixSocketBridge, type UnixSocketBridgeOptions } from '../src/index.ts'

const PORT = 52
const STREAMS = 100
const HOST_PORT = 2 ** 30

let folder: string
let path: string
let vsock: Vsock
let guest: MockVsockGuest
const closers: { close(): void }[] = []

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmm-vsock-'))
  path = join(folder, 'v.sock')
  vsock = new Vsock({ guestCid: 3 })
  guest = new MockVsockGuest({ device: vsock }).start()
})
afterEach(() => {
  for (const closer of closers.splice(0)) closer.close()
  rmSync(folder, { recursive: true })
})

async function listen(options: Partial<UnixSocketBridgeOptions> = {}): Promise<UnixSocketBridge> {
  const bridge = await UnixSocketBridge.listen({ vsock, path, ...options })
  closers.push(bridge)
  return bridge
}

/** A server of the host, on the socket that a port of the guest's leads to. */
async function serve(port: number, onSocket: (socket: net.Socket) => void): Promise<net.Server> {
  const server = net.createServer({ allowHalfOpen: true }, onSocket).listen(`${path}_${port}`)
  closers.push(server)
  await once(server, 'listening')
  return server
}

/** Reads to the end. Rejects where that comes by an error. */
function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = []
  return new Promise((resolve, reject) => {
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('end', () => resolve(Buffer.concat(chunks)))
    stream.on('error', reject)
  })
}

/** What a connection gives that says this: all up to its end, be it orderly or not. */
async function say(text: string): Promise<string> {
  const socket = net.createConnection(path)
  socket.write(text)
  return String(await readAll(socket).catch(() => ''))
}

const client = (): net.Socket => net.createConnection({ path, allowHalfOpen: true })

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn()
}

describe('a client of the host', () => {
  it('is put through to the port of the guest that it names, and told its own', async () => {
    await listen()
    guest.listen(PORT, (socket) => socket.pipe(socket))
    const socket = client()
    socket.end(`CONNECT ${PORT}\nand what follows`)
    expect(String(await readAll(socket))).toBe(`OK ${HOST_PORT}\nand what follows`)
    await until(() => vsock.connections === 0)
  })

  it('may send its line in pieces, in small letters, and wait for the answer', async () => {
    await listen()
    guest.listen(PORT, (socket) => socket.pipe(socket))
    const socket = client()
    for (const piece of ['con', 'nect ', `${PORT}`, '\r\n']) {
      socket.write(piece)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    expect(String((await once(socket, 'data'))[0])).toBe(`OK ${HOST_PORT}\n`)
    socket.end('more')
    expect(String(await readAll(socket))).toBe('more')
  })

  it.each([
    'CONNECT 53\n',
    'CONNECT\n',
    'CONNECT -1\n',
    'CONNECT 4294967295\n',
    'CONNECT 52 53\n',
    'GET / HTTP/1.1\r\n\r\n',
    `CONNECT ${'5'.repeat(1000)}`,
    '\n',
    `${'x'.repeat(100_000)}\n`,
  ])('is hung up on for %j', async (line) => {
    const bridge = await listen()
    guest.listen(PORT, () => expect.unreachable())
    expect(await say(line)).toBe('')
    await until(() => bridge.connections === 0 && vsock.connections === 0)
  })

  it('asks the guest for nothing when it goes before it has said what it wants', async () => {
    const asked: unknown[] = []
    const endpoint = {
      connect: (port: unknown) => Promise.reject(new Error(`asked ${asked.push(port)} times`)),
      onRequest: () => {},
    }
    const bridge = await listen({ vsock: endpoint })
    const socket = client().on('error', () => {})
    await once(socket, 'connect')
    socket.write('CONN')
    await until(() => bridge.connections === 1)
    bridge.close()
    await until(() => bridge.connections === 0)
    await turn()
    expect(asked).toEqual([])
    socket.destroy()
  })

  it('is hung up on when it says nothing for long', async () => {
    await listen({ handshakeTimeout: 10 })
    expect(await say('CONNECT ')).toBe('')
  })

  it('is hung up on when the guest does not answer for long', async () => {
    await listen({ connectTimeout: 10 })
    guest.onPacket = () => true
    expect(await say(`CONNECT ${PORT}\n`)).toBe('')
  })

  it('may go away meanwhile', async () => {
    const bridge = await listen()
    // A guest that does not answer.
    guest.onPacket = () => true
    const socket = client()
    socket.write(`CONNECT ${PORT}\n`)
    await until(() => vsock.connections === 1)
    socket.destroy()
    const silent = client()
    await once(silent, 'connect')
    await until(() => bridge.connections === 2)
    silent.destroy()
    bridge.close()
    await until(() => vsock.connections === 0 && bridge.connections === 0)
  })
})

describe('a guest that dials', () => {
  it('is put through to the socket of the port', async () => {
    await listen()
    await serve(PORT, (socket) => socket.pipe(socket))
    const socket = guest.connect(PORT)
    socket.end('hello')
    expect(String(await readAll(socket))).toBe('hello')
    await until(() => vsock.connections === 0)
  })

  it('is refused where there is no socket, nobody listens, or there can be none', async () => {
    const bridge = await listen()
    const stale = await serve(PORT, () => {})
    stale.close()
    writeFileSync(`${path}_54`, '')
    for (const port of [PORT, 53, 54]) {
      await expect(readAll(guest.connect(port))).rejects.toMatchObject({ code: 'ECONNRESET' })
    }
    bridge.close()
    await listen({ path: `${path}${'x'.repeat(UNIX_PATH_MAX_BYTES - path.length)}` })
    await expect(readAll(guest.connect(PORT))).rejects.toMatchObject({ code: 'ECONNRESET' })
  })

  it('may go away meanwhile', async () => {
    const bridge = await listen()
    await serve(PORT, () => {})
    guest.send({ op: 1, srcPort: 5, dstPort: PORT })
    await until(() => vsock.connections === 1)
    guest.send({ op: 3, srcPort: 5, dstPort: PORT })
    await until(() => vsock.connections === 0 && bridge.connections === 0)
  })
})

describe('a connection that is put through', () => {
  const sum = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

  it('carries everything, 100 each way', async () => {
    await listen()
    await serve(PORT, (socket) => socket.pipe(socket))
    guest.listen(PORT, (socket) => socket.pipe(socket))
    const data = Array.from({ length: 2 * STREAMS }, () => randomBytes(50_000))
    const sums = await Promise.all(
      data.map(async (bytes, i) => {
        const stream: Duplex = i < STREAMS ? guest.connect(PORT) : client()
        stream.end(i < STREAMS ? bytes : Buffer.concat([Buffer.from(`CONNECT ${PORT}\n`), bytes]))
        const all = await readAll(stream)
        return sum(i < STREAMS ? all : all.subarray(all.indexOf('\n') + 1))
      }),
    )
    expect(sums).toEqual(data.map(sum))
    await until(() => vsock.connections === 0 && guest.sockets === 0)
    expect(guest.faults).toEqual([])
  })

  it('ends one way at a time', async () => {
    await listen()
    guest.listen(PORT, async (socket) => {
      const all = await readAll(socket)
      for (let i = 0; i < 5; i += 1) await turn()
      socket.end(`got ${all}`)
    })
    const socket = client()
    socket.end(`CONNECT ${PORT}\nall of it`)
    expect(String(await readAll(socket))).toBe(`OK ${HOST_PORT}\ngot all of it`)
  })

  it('carries what the guest said before it closed to a client that still talks', async () => {
    await listen()
    const said = randomBytes(300_000)
    guest.listen(PORT, (socket) => socket.write(said, () => socket.closeNow()))
    const chunks: Buffer[] = []
    // An error, perhaps, when it has read all: it is closed while it talks.
    const socket = client().on('error', () => {})
    socket.write(`CONNECT ${PORT}\n`)
    await until(() => guest.sockets === 1)
    // Nobody reads, until the guest has closed: then the bridge and the sockets have all.
    await until(() => guest.sockets === 0)
    socket.write('more')
    for (let i = 0; i < 20; i += 1) await turn()
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.write('and more')
    await until(() => socket.closed || socket.readableEnded)
    expect(Buffer.concat(chunks).subarray(`OK ${HOST_PORT}\n`.length).equals(said)).toBe(true)
    socket.end()
    await until(() => vsock.connections === 0)
  })

  it('ends on both sides when either vanishes', async () => {
    const bridge = await listen()
    guest.listen(PORT, (socket) => socket.on('error', () => {}))
    const servers: net.Socket[] = []
    await serve(PORT, (socket) => servers.push(socket.on('error', () => {}).resume()))
    const socket = client()
    socket.write(`CONNECT ${PORT}\n`)
    const dialled = guest.connect(PORT).on('error', () => {})
    await Promise.all([once(socket, 'data'), once(dialled, 'connect')])
    await until(() => servers.length === 1)
    guest.start()
    await Promise.all([socket, servers[0] as net.Socket].map((stream) => readAll(stream)))
    await until(() => bridge.connections === 0 && vsock.connections === 0)
    // And a host that resets: its socket goes with bytes unread.
    const other = guest.connect(PORT)
    await once(other, 'connect')
    await until(() => servers.length === 2)
    other.write(Buffer.alloc(1_000_000))
    other.on('error', () => {})
    servers[1]?.destroy()
    await until(() => bridge.connections === 0 && vsock.connections === 0 && guest.sockets === 0)
  })

  it('to a host that does not read holds a bounded number of bytes', async () => {
    await listen()
    const servers: net.Socket[] = []
    await serve(PORT, (socket) => servers.push(socket.pause()))
    const socket = guest.connect(PORT)
    socket.on('error', () => {})
    const data = Buffer.alloc(20_000_000)
    socket.write(data)
    await until(() => servers.length === 1)
    // Until nothing moves any more.
    let packets = 0
    guest.onPacket = () => {
      packets += 1
      return false
    }
    for (let still = 0, before = -1; still < 50; still += 1) {
      if (packets !== before) still = 0
      before = packets
      await turn()
    }
    expect(socket.writableLength).toBe(data.length)
    const [held] = servers
    // What the kernel takes, the streams on the way, and the guest's credit.
    expect(held?.bytesRead).toBeLessThan(2_000_000)
    await once(guest.connect(PORT), 'connect')
    held?.resume()
    await until(() => socket.writableLength === 0)
  })

  it('serves HTTP both ways', async () => {
    await listen()
    const answer: http.RequestListener = (request, response) => response.end(`you asked for ${request.url}`)
    const onHost = http.createServer(answer).listen(`${path}_80`)
    closers.push(onHost)
    await once(onHost, 'listening')
    const inGuest = http.createServer(answer)
    guest.listen(80, (socket) => inGuest.emit('connection', socket))
    const get = async (createConnection: () => Duplex): Promise<string> => {
      const request = http.get({ host: 'vsock', path: '/it', createConnection: createConnection as never })
      const [response] = await once(request, 'response')
      return String(await readAll(response))
    }
    expect(await get(() => guest.connect(80))).toBe('you asked for /it')
    const socket = client()
    socket.write('CONNECT 80\n')
    await once(socket, 'data')
    expect(await get(() => socket)).toBe('you asked for /it')
  })
})

describe('the socket', () => {
  it('is removed on close, which ends everything', async () => {
    const bridge = await listen()
    guest.listen(PORT, (socket) => socket.on('error', () => {}))
    const socket = client()
    socket.on('error', () => {})
    socket.write(`CONNECT ${PORT}\n`)
    await once(socket, 'data')
    const silent = client()
    await once(silent, 'connect')
    bridge.close()
    bridge[Symbol.dispose]()
    expect(existsSync(path)).toBe(false)
    await until(() => vsock.connections === 0)
    await expect(readAll(guest.connect(PORT))).rejects.toMatchObject({ code: 'ECONNRESET' })
  })

  it('ends on close what a client has left to be said to a guest that does not read', async () => {
    vsock = new Vsock({ guestCid: 3 })
    guest = new MockVsockGuest({ device: vsock, bufferSize: 4096 }).start()
    const bridge = await listen()
    guest.listen(PORT, (socket) => socket.on('error', () => {}).end())
    const socket = client().on('data', () => {})
    // More than the guest has room for, and less than the stream has.
    socket.end(`CONNECT ${PORT}\n${'x'.repeat(10_000)}`)
    // Its own side is at its end, and what it has said has not all been heard.
    await until(() => vsock.connections === 1)
    await until(() => bridge.connections === 0)
    expect(vsock.connections).toBe(1)
    bridge.close()
    await until(() => vsock.connections === 0)
  })

  it('replaces one that was left behind', async () => {
    const server = net.createServer().listen(`${path}.old`)
    await once(server, 'listening')
    // What a VMM leaves that was killed: a name for a socket that is no more.
    linkSync(`${path}.old`, path)
    await new Promise((resolve) => server.close(resolve))
    expect(existsSync(path)).toBe(true)
    await listen()
    guest.listen(PORT, (socket) => socket.pipe(socket))
    const socket = client()
    socket.end(`CONNECT ${PORT}\n`)
    expect(String(await readAll(socket))).toBe(`OK ${HOST_PORT}\n`)
  })

  it('is not taken from whoever listens on it, nor from a file', async () => {
    await listen()
    await expect(UnixSocketBridge.listen({ vsock, path })).rejects.toMatchObject({
      code: 'ERR_VSOCK_PATH_IN_USE',
      message: `vsock socket ${path} is in use: somebody listens on it, perhaps another VM`,
    })
    mkdirSync(`${path}.d`)
    writeFileSync(`${path}.f`, 'precious')
    for (const taken of [`${path}.d`, `${path}.f`]) {
      await expect(UnixSocketBridge.listen({ vsock, path: taken })).rejects.toMatchObject({
        code: 'ERR_VSOCK_PATH_TAKEN',
      })
    }
    expect(existsSync(`${path}.f`)).toBe(true)
  })

  it('is refused a name that is too long, or empty, or in no directory', async () => {
    const fits = join(folder, 'x'.repeat(UNIX_PATH_MAX_BYTES - folder.length - 1))
    await listen({ path: fits })
    for (const [name, code] of [
      [`${fits}x`, 'ERR_VSOCK_PATH_LENGTH'],
      ['', 'ERR_VSOCK_PATH_LENGTH'],
      [`${folder}/a\0b`, 'ERR_VSOCK_PATH_LENGTH'],
      [join(folder, 'nowhere', 'v.sock'), 'ERR_VSOCK_PATH_DIRECTORY'],
    ] as const) {
      await expect(UnixSocketBridge.listen({ vsock, path: name })).rejects.toMatchObject({ code })
    }
    writeFileSync(path, '')
    await expect(UnixSocketBridge.listen({ vsock, path: join(path, 'v.sock') })).rejects.toMatchObject({
      code: 'ERR_VSOCK_PATH_DIRECTORY',
    })
  })
})
