import { expect, it } from 'vitest'
import { Fs, memoryTree, UserTree } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { HostileGuest } from './hostile-attack.ts'
import { BUFFERS, HostileMemory } from './hostile-memory.ts'

const QUEUE_SIZE = 8
const REQUEST_QUEUE = 1
const FUSE_LOOKUP = 1
const FUSE_INIT = 26
const HEADER_BYTES = 40

function fuse(operation: number, node: number, body: Uint8Array): Uint8Array {
  const header = new Uint32Array([HEADER_BYTES + body.length, operation, 1, 0, node, 0, 0, 0, 0, 0])
  return Uint8Array.of(...new Uint8Array(header.buffer), ...body)
}

it('virtio-fs puts off one look at its queues, however often one is reset while the file system is busy', () => {
  const never = () => new Promise<string>(() => {})
  const device = new Fs({
    tag: 'tree',
    fileSystem: new UserTree(memoryTree({ never })),
    queueSize: QUEUE_SIZE,
  })
  const guest = new HostileGuest(device, new HostileMemory(), {})
  const send = (request: Uint8Array, reply: number): void => {
    guest.hostile.write(BUFFERS, request)
    guest.drivers[REQUEST_QUEUE]?.send(
      [
        { address: BUFFERS, length: request.length },
        { address: BUFFERS + 0x1000, length: reply, writable: true },
      ],
      { indirect: true },
    )
    guest.notify(REQUEST_QUEUE)
  }
  guest.begin()
  send(
    fuse(FUSE_INIT, 0, new Uint8Array(new Uint32Array([7, 38, 0x1_0000, ...new Array(13).fill(0)]).buffer)),
    80,
  )
  const lookup = fuse(FUSE_LOOKUP, 1, Buffer.from('never\0'))
  for (let i = 1; i < QUEUE_SIZE; i += 1) send(lookup, 144)
  for (let i = 0; i < 10; i += 1) {
    guest.select(REQUEST_QUEUE)
    guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
    guest.drivers[REQUEST_QUEUE] = guest.driverOf(REQUEST_QUEUE)
    guest.enable(REQUEST_QUEUE, guest.driverOf(REQUEST_QUEUE))
    for (let sent = 0; sent < 2; sent += 1) send(lookup, 144)
  }
  expect(device.pending).toBe(QUEUE_SIZE)
  expect(guest.deferred.length).toBe(1)
})
