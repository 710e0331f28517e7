import { describe, expect, it } from 'vitest'
import { FRAME_BYTES_MAX, NetFrame, UserNetwork, type UserNetworkOptions } from '../../src/virtio/index.ts'
import { FrameQueue } from '../../src/virtio/net/frame-queue.ts'
import { codeThrownBy } from '../support.ts'
import { frameOf, HDR, headerBytes, NetGuest } from './net-support.ts'

const QUEUE_BYTES = 100_000

function setUp(options: Partial<UserNetworkOptions> = {}): {
  guest: NetGuest
  network: UserNetwork
  frames: Uint8Array[]
} {
  const frames: Uint8Array[] = []
  const network = new UserNetwork({ receive: (frame) => void frames.push(frame), ...options })
  const guest = new NetGuest({ network }).begin()
  return { guest, network, frames }
}

const settle = async (): Promise<void> => {
  for (let i = 0; i < 5; i += 1) await Promise.resolve()
}

describe("a user's network", () => {
  it('gets plain frames, each its own copy', () => {
    const { guest, frames } = setUp()
    guest.transmit(frameOf(100))
    guest.transmit(frameOf(200), { cut: [3, 50, 1] })
    expect(frames).toEqual([frameOf(100), frameOf(200)])
    guest.transmit(frameOf(100), { header: { flags: 1, csumStart: 34, csumOffset: 6 } })
    expect(frames.length).toBe(2)
    expect(guest.faults.map(({ code }) => code)).toEqual(['ERR_NET_OFFLOAD'])
  })

  it('sends frames, many with one notification', async () => {
    const { guest, network } = setUp()
    const [place = 0] = [1, 2, 3].flatMap(() => guest.offer())
    for (let i = 0; i < 3; i += 1) expect(network.send(frameOf(100, i))).toBe(true)
    expect(guest.received()).toEqual([])
    await settle()
    expect(guest.received().map(({ length }) => length)).toEqual([HDR + 100, HDR + 100, HDR + 100])
    expect(guest.mock.read(place, HDR + 100)).toEqual(
      Uint8Array.from([...headerBytes({ numBuffers: 1 }), ...frameOf(100, 0)]),
    )
    expect(guest.transport.counters.queueInterrupts).toBe(1)
  })

  it('answers from within receive', async () => {
    const { guest, network } = setUp({ receive: (frame) => network.send(frame.slice().reverse()) })
    guest.offer()
    guest.transmit(frameOf(100))
    await settle()
    expect(guest.received().length).toBe(1)
  })

  it('keeps frames in order while the guest has no room, drops what is too much, and says so', async () => {
    const { guest, network } = setUp({ queueBytes: QUEUE_BYTES })
    const sent = Array.from({ length: 200 }, (_, i) => network.send(frameOf(1500, i)))
    const kept = sent.filter(Boolean).length
    expect(kept).toBe(Math.floor(QUEUE_BYTES / (1500 + HDR)))
    expect(sent.indexOf(false)).toBe(kept)
    expect([network.queued, network.dropped]).toEqual([kept, 200 - kept])
    const drained = network.drained()
    const seeds: number[] = []
    while (seeds.length < kept) {
      const [place = 0] = guest.offer()
      seeds.push(...guest.mock.read(place + HDR + 20, 1))
      guest.received()
    }
    await drained
    expect(seeds).toEqual(Array.from({ length: kept }, (_, i) => frameOf(1500, i)[20]))
    expect(network.queued).toBe(0)
  })

  it('drops frames for a guest that is not there, and those that waited for one that has gone', async () => {
    const network = new UserNetwork({ receive: () => {} })
    expect(network.send(frameOf(100))).toBe(false)
    const guest = new NetGuest({ network })
    expect(network.send(frameOf(100))).toBe(false)
    guest.begin()
    expect(network.send(frameOf(100))).toBe(true)
    const drained = network.drained()
    guest.status = 0
    await drained
    expect([network.queued, network.dropped]).toEqual([0, 3])
  })

  it('holds the guest back while too many calls have not settled', async () => {
    const settled: (() => void)[] = []
    const { guest } = setUp({ receive: () => new Promise<void>((resolve) => settled.push(resolve)) })
    for (let i = 0; i < 70; i += 1) {
      guest.transmit(frameOf(60))
      guest.driver(1).reapAll()
    }
    expect(settled.length).toBe(64)
    settled.splice(0, 1)[0]?.()
    await settle()
    guest.turns()
    expect(settled.length).toBe(64)
    for (const resolve of settled.splice(0)) resolve()
    await settle()
    guest.turns()
    expect(settled.length).toBe(5)
    expect(guest.device.counters).toMatchObject({ txFrames: 70, txDropped: 0 })
  })

  it('reports what receive throws or rejects with', async () => {
    const { guest } = setUp({
      receive: (frame) => {
        if (frame.length === 100) throw new Error('at once')
        return Promise.reject(new Error('later'))
      },
    })
    guest.transmit(frameOf(100))
    guest.transmit(frameOf(200))
    await settle()
    expect(guest.failures.map((error) => (error as Error).message)).toEqual(['at once', 'later'])
  })

  it('refuses what is no frame, a queue for none, and a second device', () => {
    const { network } = setUp()
    expect(codeThrownBy(() => network.send(new Uint8Array(13)))).toBe('ERR_DEVICE_OPTION')
    expect(codeThrownBy(() => network.send(new Uint8Array(FRAME_BYTES_MAX + 1)))).toBe('ERR_DEVICE_OPTION')
    expect(codeThrownBy(() => new NetGuest({ network }))).toBe('ERR_DEVICE_OPTION')
    for (const queueBytes of [65_000, Number.NaN, 2 ** 32]) {
      expect(codeThrownBy(() => new UserNetwork({ receive: () => {}, queueBytes }))).toBe('ERR_DEVICE_OPTION')
    }
  })
})

describe('a queue of frames', () => {
  it('gives back what was put in, header and all, however it wraps', () => {
    const queue = new FrameQueue(QUEUE_BYTES)
    const lengths = [60, 1514, 9000, 30_000, 14, 65_000, 200, 44_000, 777]
    const waiting: { header: Uint8Array; frame: Uint8Array }[] = []
    const shown = new NetFrame()
    let refused = 0
    for (let i = 0; i < 2000; i += 1) {
      const frame = frameOf(lengths[(i * 5) % lengths.length] as number, i)
      const made = new NetFrame().setBytes(frame)
      made.header.set(headerBytes({ gsoSize: i }))
      if (queue.push(made)) waiting.push({ header: made.header.slice(), frame })
      else refused += 1
      const bytes = waiting.reduce((sum, one) => sum + one.frame.length + HDR, 0)
      expect(bytes).toBeLessThanOrEqual(QUEUE_BYTES)
      if (i % 3 === 0 && i % 100 < 80) continue
      expect(queue.count).toBe(waiting.length)
      const expected = waiting.shift()
      expect(queue.peek(shown)).toBe(expected !== undefined)
      if (expected === undefined) continue
      const copy = new Uint8Array(shown.length)
      shown.copyTo(copy)
      expect(Buffer.compare(copy, expected.frame)).toBe(0)
      expect(shown.header).toEqual(expected.header)
      queue.shift()
    }
    expect(refused).toBeGreaterThan(0)
  })

  it('bounds the number of tiny frames, too', () => {
    const queue = new FrameQueue(QUEUE_BYTES)
    const tiny = new NetFrame()
    let count = 0
    while (queue.push(tiny.setBytes(new Uint8Array(14)))) count += 1
    expect(count).toBe(Math.floor(QUEUE_BYTES / 64))
    expect(queue.clear()).toBe(count)
    queue.shift()
    expect(queue.peek(tiny)).toBe(false)
  })
})
