/** What becomes of a connection that the guest has closed, on the host, while there is something of it to be read. */
import { once } from 'node:events'
import { setImmediate as turn } from 'node:timers/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import { MockVsockGuest, type MockVsockSocket } from '../../src/testing/index.ts'
import { Vsock, type VsockStream } from '../../src/virtio/index.ts'

const PORT = 80
const SENT = Buffer.alloc(100_000, 'what the guest has sent, ')
/** More than the guest has room for: a write of it is under way for as long as the guest does not read. */
const MUCH = Buffer.alloc(10_000_000)

let vsock: Vsock
let guest: MockVsockGuest
let stream: VsockStream
let peer: MockVsockSocket
let read: Buffer[]

beforeEach(async () => {
  vsock = new Vsock({ guestCid: 3 })
  guest = new MockVsockGuest({ device: vsock }).start()
  const accepted = new Promise<VsockStream>((resolve) => {
    vsock.listen(PORT, resolve, { allowHalfOpen: true })
  })
  peer = guest.connect(PORT)
  stream = await accepted
  read = []
})

/** The guest sends, and closes both sides. */
async function sendAndClose(): Promise<void> {
  await new Promise((resolve) => peer.write(SENT, resolve))
  peer.closeNow()
  while (guest.sockets > 0) await turn()
}

const allRead = (): Promise<unknown> => once(stream.resume(), 'end')

describe('a host that reads slowly', () => {
  beforeEach(() => {
    stream.on('data', (chunk: Buffer) => read.push(chunk)).pause()
  })

  it('gets all of it, though it writes', async () => {
    await sendAndClose()
    await new Promise<void>((resolve, reject) => {
      stream.write('nobody hears it', (error) => (error == null ? resolve() : reject(error)))
    })
    await allRead()
    expect(Buffer.concat(read).equals(SENT)).toBe(true)
  })

  it('gets all of it, though it was writing', async () => {
    const written = new Promise<unknown>((resolve) => stream.write(MUCH, resolve))
    await sendAndClose()
    expect(await written).toBeNull()
    await allRead()
    expect(Buffer.concat(read).equals(SENT)).toBe(true)
    expect(stream.bytesWritten).toBe(0)
  })

  it('is told when it has', async () => {
    await sendAndClose()
    await allRead()
    stream.write('nobody hears it')
    await expect(once(stream, 'close')).rejects.toMatchObject({ code: 'EPIPE' })
  })
})

it('a host that does not read at all is told at once', async () => {
  await sendAndClose()
  stream.write('nobody hears it')
  await expect(once(stream, 'close')).rejects.toMatchObject({ code: 'EPIPE' })
})
