import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import type { Duplex } from 'node:stream'
import { describe, expect, it } from 'vitest'
import type { VsockStream } from '../../src/virtio/index.ts'
import { PORT, RawGuest, readAll, settle, setUp } from './vsock-support.ts'

const STREAMS = 100
const BYTES = 150_000
const MANY = 5000
const OP_RW = 5
const OP_RST = 3
const RESETS_MAX = 1024

const sum = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** Reads to the end, with rests in between. */
async function readSlowly(stream: Duplex): Promise<string> {
  const hash = createHash('sha256')
  let reads = 0
  stream.on('data', (chunk) => {
    hash.update(chunk)
    reads += 1
    if (reads % 3 !== 0) return
    stream.pause()
    setImmediate(() => stream.resume())
  })
  await once(stream, 'end')
  return hash.digest('hex')
}

/** Sends bytes in pieces of odd sizes, as fast as the stream takes them, and what comes back. */
async function exchange(stream: Duplex, data: Buffer): Promise<string> {
  const result = readSlowly(stream)
  for (let at = 0, size = 1; at < data.length; at += size, size = (size * 7) % 9973) {
    if (!stream.write(data.subarray(at, at + size))) await once(stream, 'drain')
  }
  stream.end()
  return result
}

describe('streams over virtio-vsock', () => {
  it.each([
    { packed: false, bufferSize: 262_144 },
    { packed: true, bufferSize: 5000 },
  ])('carry everything, 100 each way, whoever is slow: %o', async ({ packed, bufferSize }) => {
    const { vsock, guest } = setUp({ bufferSize: Math.min(bufferSize, 131_072) }, { packed, bufferSize })
    vsock.listen(PORT, (stream) => stream.pipe(stream), { allowHalfOpen: true })
    guest.listen(PORT, (socket) => socket.pipe(socket))
    const data = Array.from({ length: 2 * STREAMS }, () => randomBytes(BYTES))
    const streams = await Promise.all(
      data.map((_, i) => (i < STREAMS ? guest.connect(PORT) : vsock.connect(PORT, { allowHalfOpen: true }))),
    )
    const sums = await Promise.all(streams.map((stream, i) => exchange(stream, data[i] as Buffer)))
    expect(sums).toEqual(data.map(sum))
    for (let i = 0; i < 100 && vsock.connections + guest.sockets > 0; i += 1) await settle()
    expect([vsock.connections, guest.sockets, guest.faults, guest.failures]).toEqual([0, 0, [], []])
  })

  it('are there by the thousand', async () => {
    const { vsock, guest } = setUp()
    const echoed: Promise<Buffer>[] = []
    vsock.listen(PORT, (stream) => stream.pipe(stream), { allowHalfOpen: true })
    guest.listen(PORT, (socket) => socket.pipe(socket))
    const sockets = Array.from({ length: MANY / 2 }, () => guest.connect(PORT))
    await Promise.all(sockets.map((socket) => once(socket, 'connect')))
    const dials = Array.from({ length: MANY / 2 }, () => vsock.connect(PORT, { allowHalfOpen: true }))
    const streams = await Promise.all(dials)
    expect([vsock.connections, guest.sockets]).toEqual([MANY, MANY])
    for (const [i, stream] of [...sockets, ...streams].entries()) {
      echoed.push(readAll(stream))
      stream.end(`${i}`)
    }
    expect((await Promise.all(echoed)).map(String)).toEqual(Array.from({ length: MANY }, (_, i) => `${i}`))
    for (let i = 0; i < 100 && vsock.connections > 0; i += 1) await settle()
    expect([vsock.connections, guest.sockets]).toEqual([0, 0])
  })

  it("never have more in flight than the guest's buffer, and wait for it", async () => {
    const { vsock, guest } = setUp({}, { bufferSize: 10_000 })
    guest.listen(PORT, () => {})
    const stream = await vsock.connect(PORT)
    stream.on('error', () => {})
    const length = Math.max(30_000, stream.writableHighWaterMark)
    expect(stream.write(Buffer.alloc(length))).toBe(false)
    await settle()
    expect(stream.writableLength).toBe(length)
    guest.listen(7, (socket) => socket.pipe(socket))
    const other = await vsock.connect(7)
    other.end('not held up')
    expect(String(await readAll(other))).toBe('not held up')
    stream.destroy()
  })

  it('gather what is written at once into few packets', async () => {
    const { vsock, guest } = setUp()
    guest.listen(PORT, (socket) => socket.pipe(socket))
    const stream = await vsock.connect(PORT)
    await settle()
    const lengths: number[] = []
    guest.onPacket = ({ op, len }) => {
      if (op === OP_RW) lengths.push(len)
      return false
    }
    for (let i = 0; i < 100; i += 1) stream.write('x')
    stream.end()
    expect((await readAll(stream)).length).toBe(100)
    expect(lengths).toEqual([1, 99])
  })
})

describe('who does not keep up', () => {
  it('on the host costs a buffer, and holds up nobody else', async () => {
    const { vsock, guest } = setUp({ bufferSize: 8192 })
    const streams: VsockStream[] = []
    vsock.listen(PORT, (stream) => streams.push(stream))
    vsock.listen(7, (stream) => stream.pipe(stream))
    const stuck = guest.connect(PORT)
    const data = randomBytes(40_000)
    stuck.end(data)
    const good = guest.connect(7)
    good.end('not held up')
    expect(String(await readAll(good))).toBe('not held up')
    const [stream] = streams
    expect(stream?.bytesRead).toBeLessThanOrEqual(8192)
    expect(stuck.writableFinished).toBe(false)
    expect(await readAll(stream as VsockStream)).toEqual(data)
    expect(guest.faults).toEqual([])
  })

  it('is sent bytes, not objects: small packets are put together', async () => {
    const raw = new RawGuest({ bufferSize: 8192 })
    const stream = await raw.dial(5)
    for (let i = 0; i < 8192; i += 1) {
      raw.guest.send({ op: OP_RW, srcPort: 5, dstPort: PORT, payload: Uint8Array.of(i) })
    }
    await settle(200)
    const chunks: Buffer[] = []
    stream.on('data', (chunk) => chunks.push(chunk))
    await settle()
    const all = Buffer.concat(chunks)
    expect(all).toEqual(Buffer.from(Array.from({ length: 8192 }, (_, i) => i & 0xff)))
    expect(chunks.length).toBeLessThan(8)
  })

  it('and sends more than it may loses its connection, and no other', async () => {
    const raw = new RawGuest({ bufferSize: 4096 })
    const [stream, other] = [await raw.dial(5), await raw.dial(6)]
    await raw.take()
    raw.guest.send({ op: OP_RW, srcPort: 5, dstPort: PORT, payload: new Uint8Array(4096) })
    expect(await raw.operations()).toEqual([])
    raw.guest.send({ op: OP_RW, srcPort: 5, dstPort: PORT, payload: new Uint8Array(1) })
    expect(await raw.operations()).toEqual([OP_RST])
    expect(stream.errored).toMatchObject({ code: 'ECONNRESET' })
    expect(raw.guest.faults.map(({ code }) => code)).toEqual(['ERR_VSOCK_CREDIT'])
    expect(other.destroyed).toBe(false)
  })

  it('in the guest, without buffers for packets, costs a bounded number of answers', async () => {
    const raw = new RawGuest({}, { rxBuffers: 1 })
    raw.guest.starves = true
    raw.guest.send({ op: 1, srcPort: 1, dstPort: 1 })
    await settle()
    raw.packets.length = 0
    for (let i = 0; i < RESETS_MAX + 500; i += 1) raw.guest.send({ op: 1, srcPort: i, dstPort: 1 })
    await settle(100)
    const tx = raw.guest.drivers[1]
    // The guest is not listened to any more: its packets stay in the queue.
    expect(tx?.free).toBe(0)
    raw.guest.starves = false
    raw.guest.poll()
    await settle(2000)
    const ports = raw.packets.map(({ dstPort }) => dstPort)
    expect(ports).toEqual(Array.from({ length: RESETS_MAX + 500 }, (_, i) => i))
  })

  it('does not keep others from their turn, and data never keeps control packets waiting', async () => {
    const raw = new RawGuest({}, { rxBuffers: 1, rxBufferSize: 1044 })
    const streams = [await raw.dial(5), await raw.dial(6), await raw.dial(7)]
    await raw.take()
    raw.guest.starves = true
    raw.guest.send({ op: 7, srcPort: 5, dstPort: PORT, bufAlloc: 65_536 })
    await settle()
    await raw.take()
    for (const stream of streams) stream.write(Buffer.alloc(3000))
    await settle()
    raw.guest.send({ op: 1, srcPort: 9, dstPort: 99 })
    await settle()
    raw.guest.starves = false
    raw.guest.poll()
    const seen = await raw.take()
    expect(seen.map(({ op, dstPort }) => [op, dstPort])).toEqual([
      [OP_RST, 9],
      ...[5, 6, 7, 5, 6, 7, 5, 6, 7].map((port) => [OP_RW, port]),
    ])
  })
})

describe('HTTP over virtio-vsock', () => {
  const BODY = randomBytes(50_000)
  const serve = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    const hash = createHash('sha256')
    request.on('data', (chunk) => hash.update(chunk))
    request.on('end', () => response.setHeader('x-sum', hash.digest('hex')).end(BODY))
  }
  const post = async (createConnection: http.RequestOptions['createConnection']) => {
    const request = http.request({ method: 'POST', path: '/', host: 'vsock', createConnection })
    request.end(BODY)
    const [response] = (await once(request, 'response')) as [http.IncomingMessage]
    const chunks: Buffer[] = []
    for await (const chunk of response) chunks.push(chunk)
    return [response.statusCode, response.headers['x-sum'], Buffer.concat(chunks).equals(BODY)]
  }

  it('is served by the host', async () => {
    const { vsock, guest } = setUp()
    const server = http.createServer({ requestTimeout: 1000, keepAliveTimeout: 1000 }, serve)
    server.timeout = 1000
    vsock.listen(80, (stream) => server.emit('connection', stream))
    const results = await Promise.all(
      Array.from({ length: 10 }, () => post(() => guest.connect(80) as never)),
    )
    for (const result of results) expect(result).toEqual([200, sum(BODY), true])
  })

  it('is asked for by the host, on a connection made beforehand or when it is needed', async () => {
    const { vsock, guest } = setUp()
    const server = http.createServer(serve)
    guest.listen(80, (socket) => server.emit('connection', socket))
    const stream = await vsock.connect(80)
    expect(await post(() => stream as never)).toEqual([200, sum(BODY), true])
    const later = post(((_: unknown, done: (error: Error | null, stream?: unknown) => void) => {
      vsock.connect(80).then((made) => done(null, made), done)
    }) as never)
    expect(await later).toEqual([200, sum(BODY), true])
  })

  it('keeps connections alive for an agent', async () => {
    const { vsock, guest } = setUp()
    const server = http.createServer(serve)
    let connections = 0
    guest.listen(80, (socket) => {
      connections += 1
      server.emit('connection', socket)
    })
    const agent = new http.Agent({ keepAlive: true })
    Object.assign(agent, {
      createConnection: (_: unknown, done: (error: Error | null, stream?: unknown) => void) => {
        vsock.connect(80).then((made) => done(null, made), done)
      },
    })
    for (let i = 0; i < 3; i += 1) {
      const request = http.get({ host: 'vsock', agent, timeout: 1000 })
      const [response] = (await once(request, 'response')) as [http.IncomingMessage]
      response.resume()
      await once(response, 'end')
      await settle()
    }
    expect(connections).toBe(1)
    agent.destroy()
  })
})
