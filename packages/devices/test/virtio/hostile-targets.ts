/** The devices to be attacked. A new one is a row here. */
import { setImmediate } from 'node:timers/promises'
import { expect } from 'vitest'
import type { VirtioDevice, VsockStream } from '../../src/virtio/index.ts'
import {
  Balloon,
  Console,
  Fs,
  memoryTree,
  Net,
  Rng,
  UserNetwork,
  UserTree,
  VIRTIO_NET_HDR_SIZE,
  Vsock,
} from '../../src/virtio/index.ts'
import { textOf } from '../support.ts'
import type { Request, Target } from './hostile-attack.ts'
import { DISK_TARGETS } from './hostile-disk-targets.ts'
import { REGIONS } from './hostile-memory.ts'
import { TestDevice } from './support.ts'

const QUEUE_SIZE = 16
/** Of the event loop: enough for streams to settle in. */
const TURNS = 5

async function turns(): Promise<void> {
  for (let i = 0; i < TURNS; i += 1) await setImmediate()
}

/** 32-bit words, as many bytes of them as wanted. */
function words(all: readonly number[], length: number = 4 * all.length): Uint8Array {
  return new Uint8Array(Uint32Array.from(all).buffer).slice(0, length)
}

const writes = (queue: number, ...writable: number[]): Request => ({
  queue,
  readable: new Uint8Array(0),
  writable,
})
const reads = (queue: number, readable: Uint8Array, ...writable: number[]): Request => ({
  queue,
  readable,
  writable,
})

/** Any device: what is the transport's alone, with a configuration that the driver may write and that is saved. */
class ConfigurableDevice extends TestDevice {
  // Takes no notes: there would be no end of them.
  override activate(): void {}
  override notify(): void {}
  override resetQueue(): void {}
  override reset(): void {}

  override state(): unknown {
    return [...this.config]
  }

  override restore(state: unknown): void {
    this.config.set(state as number[])
  }
}

const anyDevice: Target = {
  name: 'any device',
  requests: [{ queue: 0, readable: Uint8Array.of(1, 2, 3), writable: [4] }],
  make() {
    const device = new ConfigurableDevice()
    return {
      device,
      step(choice) {
        device.config[choice % device.config.length] = choice
        device.transport.configChanged()
      },
      works() {
        expect(device.transport.running).toBe(true)
      },
    }
  },
}

const rng: Target = {
  name: 'virtio-rng',
  requests: [{ queue: 0, readable: new Uint8Array(0), writable: [64] }],
  make() {
    return {
      device: new Rng(),
      async works(guest) {
        const random = await guest.request({ queue: 0, readable: new Uint8Array(0), writable: [64] })
        expect(random.length).toBe(64)
        expect(random.some((byte) => byte !== 0)).toBe(true)
      },
    }
  },
}

const FRAME = Uint8Array.from({ length: VIRTIO_NET_HDR_SIZE + 60 }, (_, i) =>
  i < VIRTIO_NET_HDR_SIZE ? 0 : i,
)

const net: Target<Net> = {
  name: 'virtio-net',
  requests: [
    writes(0, 1526),
    writes(0, 100),
    reads(1, FRAME),
    reads(1, Uint8Array.of(1, 1, 54, 0, 100, 0, 34, 0, 16, 0, 0, 0, ...new Uint8Array(600))),
    // Commands: promiscuous, an address, queue pairs, offloads.
    reads(2, Uint8Array.of(0, 0, 1), 1),
    reads(2, Uint8Array.of(1, 1, 2, 0, 0, 0, 0, 9), 1),
    reads(2, Uint8Array.of(4, 0, 1, 0), 1),
    reads(2, Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0, 0, 0), 1),
  ],
  make() {
    const received: Uint8Array[] = []
    const waiting: (() => void)[] = []
    const network = new UserNetwork({
      queueBytes: 2 ** 17,
      receive(frame) {
        received.push(frame)
        return received.length % 2 === 0 ? undefined : new Promise<void>((resolve) => waiting.push(resolve))
      },
    })
    return {
      device: new Net({ network, queueSize: QUEUE_SIZE }),
      turn: () => setImmediate(),
      step(choice) {
        waiting.shift()?.()
        received.length = 0
        if (choice % 2 === 0) network.send(new Uint8Array(14 + (choice % 3000)))
      },
      async settle() {
        for (let release = waiting.shift(); release !== undefined; release = waiting.shift()) {
          release()
          await turns()
        }
        await turns()
      },
      async works(guest) {
        received.length = 0
        await guest.request(reads(1, FRAME), turns)
        expect(received).toEqual([FRAME.subarray(VIRTIO_NET_HDR_SIZE)])
        // What waited in the network's queue comes first.
        for (let i = 0; i < QUEUE_SIZE && network.queued > 0; i += 1)
          await guest.request(writes(0, 65_600), turns)
        network.send(FRAME)
        expect((await guest.request(writes(0, 1526), turns)).length).toBeGreaterThan(VIRTIO_NET_HDR_SIZE)
      },
    }
  },
}

const DEVICE_READY = words([0, 0x0001_0000])
const PORT_READY = words([0, 0x0001_0003])
const PORT_OPEN = words([0, 0x0001_0006])
const TEXT = Buffer.from('a line of a good driver')
/** So long that a stream whose guest does not read is soon full. */
const INPUT = Buffer.alloc(8192, 'input ')

const consolePorts: Target<Console> = {
  name: 'virtio-console',
  requests: [
    writes(0, 64),
    reads(1, TEXT),
    writes(2, 100),
    reads(3, DEVICE_READY),
    reads(3, PORT_READY),
    reads(3, PORT_OPEN),
    reads(3, words([1, 0x0001_0003])),
    writes(4, 64),
    reads(5, new Uint8Array(1000)),
  ],
  make() {
    const device = new Console({
      queueSize: QUEUE_SIZE,
      ports: [
        { console: true, bufferBytes: 4096 },
        { name: 'agent', bufferBytes: 4096 },
      ],
    })
    const streams = device.ports.map((port) => port.open())
    return {
      device,
      isChangedByRestore: true,
      turn: () => setImmediate(),
      step(choice) {
        const at = choice % streams.length
        const stream = streams[at]
        const port = device.ports[at]
        if (stream === undefined || port === undefined) return
        if (choice % 16 === 0 && !stream.destroyed) stream.destroy()
        else if (stream.destroyed && !port.hostOpen) streams[at] = port.open()
        else if (choice % 4 === 0) port.resize(choice % 200, choice % 100)
        else if (choice % 2 === 0) stream.read()
        else if (!stream.writableNeedDrain && stream.writable) stream.write(INPUT)
      },
      settle: turns,
      async works(guest) {
        const [port] = device.ports
        await turns()
        const stream = streams[0]?.destroyed === false ? streams[0] : port?.open()
        if (stream === undefined) throw new Error('no port')
        for (const control of [DEVICE_READY, PORT_READY, PORT_OPEN])
          await guest.request(reads(3, control), turns)
        // What came before, which may be all that it takes.
        textOf(stream)
        await guest.request(reads(1, TEXT), turns)
        expect(textOf(stream)).toContain(TEXT.toString())
      },
      close() {
        for (const stream of streams) stream.destroy()
      },
    }
  },
}

const VSOCK_PORT = 1024
const MORE_ROOM = 65_536

/** A packet from the guest: operation, and data. */
function packet(operation: number, data: Uint8Array = new Uint8Array(0), source = 5): Request {
  const header = words([3, 0, 2, 0, source, VSOCK_PORT, data.length, 1 | (operation << 16), 3, MORE_ROOM, 0])
  return reads(1, Uint8Array.of(...header, ...data))
}

const vsock: Target<Vsock> = {
  name: 'virtio-vsock',
  requests: [
    writes(0, 44),
    writes(0, 2000),
    writes(2, 8),
    packet(1),
    packet(1, undefined, 6),
    packet(2),
    packet(3),
    packet(4),
    packet(5, TEXT),
    packet(5, new Uint8Array(3000)),
    packet(6),
    packet(7),
  ],
  make() {
    const device = new Vsock({ guestCid: 3, maxConnections: 8, bufferSize: 4096 })
    const streams: VsockStream[] = []
    device.listen(VSOCK_PORT, (stream) => {
      streams.push(stream)
      stream.on('error', () => {})
      stream.on('close', () => streams.splice(streams.indexOf(stream), 1))
    })
    return {
      device,
      turn: () => setImmediate(),
      step(choice) {
        const stream = streams[choice % Math.max(1, streams.length)]
        if (choice % 8 === 0) stream?.destroy()
        else if (choice % 8 === 1) stream?.end()
        else if (choice % 8 === 2) device.connect(7, { timeout: 10 }).catch(() => {})
        else if (choice % 2 === 0) stream?.read()
        else if (stream?.writable === true && !stream.writableNeedDrain) stream.write('data')
      },
      async settle() {
        for (const stream of [...streams]) stream.destroy()
        await turns()
      },
      count: () => device.connections,
      async works(guest) {
        for (const stream of [...streams]) stream.destroy()
        await turns()
        // Room for whatever was still to be told.
        const { drivers } = guest
        for (let i = 0; i < QUEUE_SIZE; i += 1) {
          drivers[0]?.add([{ address: 0xb_0000 + 0x1000 * i, length: 0x1000, writable: true }])
        }
        drivers[0]?.publish()
        guest.notify(0)
        await turns()
        const before = streams.length
        await guest.request(packet(1, undefined, 77), turns)
        expect(streams.length).toBe(before + 1)
        await guest.request(packet(5, TEXT, 77), turns)
        const stream = streams.at(-1)
        expect(stream && textOf(stream)).toBe(TEXT.toString())
      },
      close: () => device.close(),
    }
  },
}

const PAGE = 4096

const balloon: Target<Balloon> = {
  name: 'virtio-balloon',
  requests: [
    reads(0, words([0xb0, 0xb1, 0xff, 0x10_0001])),
    reads(0, words([0xa0, 0xffff_ffff, 0xd_0000, 0xa0])),
    reads(1, words([0xb0, 0xb1])),
    // Tag and value, ten bytes each.
    reads(2, words([0x0001_0004, 0x100_0000, 0, 0x5_0000, 9], 20)),
    writes(4, PAGE, 5 * PAGE),
  ],
  make() {
    let wrong = 0
    let discarded = 0
    const device = new Balloon({
      memory: {
        discard(address, size) {
          const isInside = REGIONS.some(
            (region) => address >= region.start && address + size <= region.start + region.size,
          )
          if (!isInside || address % PAGE !== 0 || size % PAGE !== 0 || size === 0) wrong += 1
          discarded += size
        },
      },
      deflateOnOom: true,
      reporting: true,
      statisticsInterval: 0,
    })
    return {
      device,
      step(choice) {
        if (choice % 2 === 0) device.setTarget((choice % 1000) * PAGE)
        else device.requestStatistics()
      },
      check: () => expect(wrong).toBe(0),
      async works(guest) {
        discarded = 0
        await guest.request(reads(0, words([0xb0])))
        expect(discarded).toBe(PAGE)
      },
    }
  },
}

/** A FUSE request: operation, node, arguments. */
function fuse(operation: number, node: number, body: Uint8Array, reply: number, queue = 1): Request {
  const length = 40 + body.length
  return reads(
    queue,
    Uint8Array.of(...words([length, operation, 1, 0, node, 0, 0, 0, 0, 0]), ...body),
    16,
    reply,
  )
}

const FUSE_INIT = fuse(26, 0, words([7, 38, 65_536, 0, ...new Array(12).fill(0)]), 64)

const directory: Target<Fs> = {
  name: 'virtio-fs',
  requests: [
    FUSE_INIT,
    fuse(1, 1, Buffer.from('file\0'), 128),
    fuse(1, 1, Buffer.from('..\0'), 128),
    fuse(3, 1, new Uint8Array(16), 104),
    fuse(14, 2, new Uint8Array(8), 16),
    fuse(15, 2, words([0, 0, 0, 0, 4096, 0, 0, 0, 0, 0]), 4096),
    fuse(16, 2, Uint8Array.of(...words([0, 0, 0, 0, 5, 0, 0, 0, 0, 0]), ...Buffer.from('bytes')), 8),
    fuse(27, 1, new Uint8Array(8), 16),
    fuse(44, 1, words([0, 0, 0, 0, 4096, 0, 0, 0, 0, 0]), 4096),
    fuse(35, 1, Uint8Array.of(...words([0, 0o100644, 0, 0]), ...Buffer.from('made\0')), 160),
    { ...fuse(2, 2, words([1, 0]), 0, 0), writable: [] },
    fuse(38, 0, new Uint8Array(0), 0),
  ],
  make() {
    const fileSystem = new UserTree(
      memoryTree({ file: 'some text\n', later: async () => 'text', folder: { a: 'a' } }),
    )
    const device = new Fs({ tag: 'tree', fileSystem, queueSize: QUEUE_SIZE, maxNodes: 64, maxHandles: 64 })
    return {
      device,
      isSavedWhenReset: true,
      turn: () => setImmediate(),
      settle: () => device.idle(),
      check() {
        expect([device.nodes <= 64, device.handles <= 64]).toEqual([true, true])
      },
      count: () => device.pending,
      async works(guest) {
        const reply = await guest.request(FUSE_INIT, () => device.idle())
        // No error, and the version.
        expect([
          ...new Uint32Array(reply.slice(4, 8).buffer),
          ...new Uint32Array(reply.slice(16, 20).buffer),
        ]).toEqual([0, 7])
      },
    }
  },
}

/** All devices of this package. */
export const TARGETS: readonly Target[] = [
  anyDevice,
  rng,
  ...DISK_TARGETS,
  net,
  consolePorts,
  vsock,
  balloon,
  directory,
] as readonly Target<VirtioDevice>[]
