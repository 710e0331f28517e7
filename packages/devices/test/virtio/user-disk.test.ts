import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import * as spec from '../../src/virtio/blk/spec.ts'
import type { UserDiskSource } from '../../src/virtio/index.ts'
import { SECTOR_SIZE, USER_DISK_CHUNK_BYTES, USER_DISK_PARALLEL, UserDisk } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { BlkGuest, DATA, HEADER, readable, STATUS, writable } from './blk-support.ts'

const IN = spec.VIRTIO_BLK_T_IN
const OUT = spec.VIRTIO_BLK_T_OUT
const SIZE = 0x8_0000

/** The disk of a user: ten lines. What it is called with is noted. */
function createSource(bytes: Uint8Array = new Uint8Array(SIZE)) {
  const calls: string[] = []
  return {
    bytes,
    calls,
    size: bytes.length,
    async read(target: Uint8Array, position: number): Promise<void> {
      calls.push(`read ${position} ${target.length}`)
      target.set(bytes.subarray(position, position + target.length))
    },
    async write(source: Uint8Array, position: number): Promise<void> {
      calls.push(`write ${position} ${source.length}`)
      bytes.set(source, position)
    },
    async flush(): Promise<void> {
      calls.push('flush')
    },
  }
}

function setUp(source: UserDiskSource): BlkGuest {
  const guest = new BlkGuest({ disk: new UserDisk(source) })
  guest.begin()
  return guest
}

/** As `BlkGuest.request`, of a disk that takes its time. */
async function request(guest: BlkGuest, ...args: Parameters<BlkGuest['send']>): Promise<unknown> {
  guest.send(...args)
  await guest.device.idle()
  return { status: guest.status8, length: guest.driver.reap()?.length }
}

describe("a disk of the user's own", () => {
  it('is read and written', async () => {
    const source = createSource()
    const guest = setUp(source)
    guest.mock.write(DATA, new Uint8Array(512).fill(0xaa))
    expect(await request(guest, OUT, 2, { data: [readable(DATA, 512)] })).toEqual({ status: 0, length: 1 })
    expect(source.bytes.subarray(1024, 1536).every((byte) => byte === 0xaa)).toBe(true)
    const data = [writable(DATA + 0x1000, 500), writable(DATA + 0x2000, 12)]
    expect(await request(guest, IN, 2, { data })).toEqual({ status: 0, length: 513 })
    expect(guest.mock.read(DATA + 0x1000, 500)).toEqual(new Uint8Array(500).fill(0xaa))
    expect(guest.mock.read(DATA + 0x2000, 12)).toEqual(new Uint8Array(12).fill(0xaa))
    expect(await request(guest, spec.VIRTIO_BLK_T_FLUSH, 0)).toEqual({ status: 0, length: 1 })
    expect(source.calls).toEqual(['write 1024 512', 'read 1024 512', 'flush'])
  })

  it('may be a synchronous one', async () => {
    const bytes = new Uint8Array(SIZE).fill(7)
    const guest = setUp({
      size: SIZE,
      read: (target, position) => target.set(bytes.subarray(position, position + target.length)),
    })
    expect(await request(guest, IN, 0, { data: [writable(DATA, 512)] })).toEqual({ status: 0, length: 513 })
    expect(guest.mock.read(DATA, 1)).toEqual(Uint8Array.of(7))
  })

  it('without a write is read-only', () => {
    const { size, read } = createSource()
    expect(setUp({ size, read }).offered(0) & (1 << spec.VIRTIO_BLK_F_RO)).not.toBe(0)
    expect(setUp(createSource()).offered(0) & (1 << spec.VIRTIO_BLK_F_RO)).toBe(0)
    expect(setUp({ ...createSource(), readOnly: true }).offered(0) & (1 << spec.VIRTIO_BLK_F_RO)).not.toBe(0)
  })

  it('gets large requests in pieces, of both kinds', async () => {
    const source = createSource()
    source.bytes.fill(5)
    const guest = setUp(source)
    const length = USER_DISK_CHUNK_BYTES + 1024
    expect(await request(guest, IN, 1, { data: [writable(DATA, length)] })).toEqual({
      status: 0,
      length: length + 1,
    })
    expect(guest.mock.read(DATA + length - 1, 2)).toEqual(Uint8Array.of(5, 0))
    await request(guest, OUT, 1, { data: [readable(DATA, length)] })
    expect(source.calls).toEqual([
      `read 512 ${USER_DISK_CHUNK_BYTES}`,
      `read ${512 + USER_DISK_CHUNK_BYTES} 1024`,
      `write 512 ${USER_DISK_CHUNK_BYTES}`,
      `write ${512 + USER_DISK_CHUNK_BYTES} 1024`,
    ])
  })

  it('flushes each write where the driver has no cache', async () => {
    const source = createSource()
    const guest = setUp(source)
    guest.write(reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_WRITEBACK_OFFSET, 0, 1)
    await request(guest, OUT, 0, { data: [readable(DATA, 512)] })
    await request(guest, spec.VIRTIO_BLK_T_WRITE_ZEROES, 0, { data: guest.writeRange(0, 1) })
    await request(guest, IN, 0, { data: [writable(DATA, 512)] })
    expect(source.calls).toEqual(['write 0 512', 'flush', 'write 0 512', 'flush', 'read 0 512'])
  })

  it('writes zeros where it has no call for that', async () => {
    const source = createSource()
    source.bytes.fill(5)
    const guest = setUp(source)
    await request(guest, spec.VIRTIO_BLK_T_WRITE_ZEROES, 0, { data: guest.writeRange(1, 2) })
    expect([511, 512, 1535, 1536].map((at) => source.bytes[at])).toEqual([5, 0, 0, 5])
    expect(source.bytes.length).toBe(SIZE)
  })

  it('is told of discards and zeroed ranges where it wants to be', async () => {
    const calls: unknown[] = []
    const guest = setUp({
      ...createSource(),
      discard: (...args) => calls.push(['discard', ...args]),
      writeZeroes: (...args) => calls.push(['zero', ...args]),
    })
    await request(guest, spec.VIRTIO_BLK_T_DISCARD, 0, { data: guest.writeRange(1, 2) })
    await request(guest, spec.VIRTIO_BLK_T_WRITE_ZEROES, 0, { data: guest.writeRange(3, 1, 1) })
    expect(calls).toEqual([
      ['discard', 512, 1024],
      ['zero', 1536, 512, true],
    ])
  })

  it('fails requests by throwing, now or later, and the host hears why', async () => {
    const errors = [new Error('now'), new Error('later')]
    const guest = setUp({
      size: SIZE,
      read() {
        throw errors[0]
      },
      write: () => Promise.reject(errors[1]),
    })
    expect(await request(guest, IN, 0, { data: [writable(DATA, 512)] })).toEqual({ status: 1, length: 0 })
    expect(await request(guest, OUT, 0, { data: [readable(DATA, 512)] })).toEqual({ status: 1, length: 1 })
    expect(guest.failures).toEqual(errors)
  })

  it('writes what the guest had sent, whatever it does to it meanwhile', async () => {
    const source = createSource()
    let release = (): void => {}
    const gate = new Promise<void>((resolve) => (release = resolve))
    const guest = setUp({
      ...source,
      write: async (bytes, position) => {
        await gate
        await source.write(bytes, position)
      },
    })
    guest.mock.write(DATA, new Uint8Array(512).fill(1))
    guest.send(OUT, 0, { data: [readable(DATA, 512)] })
    guest.mock.write(DATA, new Uint8Array(512).fill(2))
    guest.writeHeader(OUT, 5)
    release()
    await guest.device.idle()
    expect(source.bytes[0]).toBe(1)
    expect(source.bytes[5 * SECTOR_SIZE]).toBe(0)
  })

  it('does not reach memory that a reset has taken back, nor goes on with the request', async () => {
    let release = (): void => {}
    const gate = new Promise<void>((resolve) => (release = resolve))
    const positions: number[] = []
    const guest = setUp({
      size: SIZE,
      read: async (target, position) => {
        positions.push(position)
        await gate
        target.fill(9)
      },
    })
    guest.send(IN, 0, { data: [writable(DATA, 2 * USER_DISK_CHUNK_BYTES)] })
    guest.status = 0
    guest.mock.write(DATA, Uint8Array.of(1))
    release()
    await guest.device.idle()
    expect(guest.mock.read(DATA, 2)).toEqual(Uint8Array.of(1, 0))
    expect(positions).toEqual([0])
    expect(guest.interrupt.count).toBe(0)
  })

  it('has so many calls at a time, and no more memory for them', async () => {
    let running = 0
    let most = 0
    const guest = new BlkGuest({
      queueSize: 256,
      disk: new UserDisk({
        size: SIZE,
        read: async (target) => {
          running += 1
          most = Math.max(most, running)
          await setImmediate()
          target.fill(3)
          running -= 1
        },
      }),
    })
    guest.begin()
    guest.writeHeader(IN, 0)
    const count = USER_DISK_PARALLEL + 10
    for (let i = 0; i < count; i += 1) {
      guest.driver.add([readable(HEADER, 16), writable(DATA + 512 * i, 512), writable(STATUS + i, 1)])
    }
    guest.driver.publish()
    guest.notify(0)
    await guest.device.idle()
    expect(most).toBe(USER_DISK_PARALLEL)
    expect(guest.driver.reapAll().length).toBe(count)
    expect(guest.mock.read(DATA + 512 * (count - 1), 1)).toEqual(Uint8Array.of(3))
  })
})
