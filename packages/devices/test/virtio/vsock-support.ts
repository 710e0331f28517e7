/** A virtio-vsock with a guest in front of it. */
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { MockVsockGuest, type MockVsockGuestOptions, type MockVsockPacket } from '../../src/testing/index.ts'
import { Vsock, type VsockOptions, type VsockStream } from '../../src/virtio/index.ts'

export const GUEST_CID = 3
export const PORT = 1024

/** A device and its guest, which has booted. */
export function setUp(
  options: Partial<VsockOptions> = {},
  guestOptions: Partial<MockVsockGuestOptions> = {},
): { vsock: Vsock; guest: MockVsockGuest } {
  const vsock = new Vsock({ guestCid: GUEST_CID, ...options })
  const guest = new MockVsockGuest({ device: vsock, ...guestOptions }).start()
  return { vsock, guest }
}

/** Lets device and guest do what they have to do. */
export async function settle(turns = 20): Promise<void> {
  for (let i = 0; i < turns; i += 1) await turn()
}

/** Everything that a stream gives until its end. It stays open the other way. */
export function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = []
  return new Promise((resolve, reject) => {
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('end', () => resolve(Buffer.concat(chunks)))
    stream.on('error', reject)
  })
}

/** The end of a stream, and the code of its error where there is one. */
export async function closed(stream: Duplex): Promise<string | undefined> {
  let code: string | undefined
  stream.on('error', (error: NodeJS.ErrnoException) => {
    code = error.code
  })
  if (!stream.closed) await once(stream, 'close').catch(() => {})
  return code
}

/** Packets without the fields that a test does not look at. */
export interface Seen {
  readonly op: number
  readonly flags: number
  readonly srcPort: number
  readonly dstPort: number
  readonly len: number
}

/** A guest whose sockets do nothing: the test is the driver, and sees each packet. */
export class RawGuest {
  readonly vsock: Vsock
  readonly guest: MockVsockGuest
  readonly streams: VsockStream[] = []
  readonly packets: MockVsockPacket[] = []

  constructor(options: Partial<VsockOptions> = {}, guestOptions: Partial<MockVsockGuestOptions> = {}) {
    const { vsock, guest } = setUp(options, guestOptions)
    this.vsock = vsock
    this.guest = guest
    guest.onPacket = (packet) => {
      this.packets.push(packet)
      return true
    }
  }

  /** The packets that came since this was last asked. */
  async take(): Promise<Seen[]> {
    await settle()
    return this.packets.splice(0).map(({ op, flags, srcPort, dstPort, len }) => ({
      op,
      flags,
      srcPort,
      dstPort,
      len,
    }))
  }

  /** The operations that came since this was last asked. */
  async operations(): Promise<number[]> {
    return (await this.take()).map(({ op }) => op)
  }

  /** A connection that the guest has made from a port. */
  async dial(guestPort: number, hostPort: number = PORT, bufAlloc = 65_536): Promise<VsockStream> {
    if (this.streams.length === 0 && hostPort === PORT) {
      try {
        this.vsock.listen(PORT, (stream) => {
          stream.on('error', () => {})
          this.streams.push(stream)
        })
      } catch {
        // The test listens.
      }
    }
    this.guest.send({ op: 1, srcPort: guestPort, dstPort: hostPort, bufAlloc })
    await settle()
    const stream = this.streams.find(({ remotePort }) => remotePort === guestPort)
    if (stream === undefined) throw new Error('no connection')
    return stream
  }
}
