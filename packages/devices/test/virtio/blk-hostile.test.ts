import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as spec from '../../src/virtio/blk/spec.ts'
import { BufferDisk, SECTOR_SIZE, VIRTIO_CONFIG_S_NEEDS_RESET } from '../../src/virtio/index.ts'
import { BlkGuest, MEMORY_SIZE } from './blk-support.ts'

const SECTORS = 8
const TYPES = [
  spec.VIRTIO_BLK_T_IN,
  spec.VIRTIO_BLK_T_OUT,
  spec.VIRTIO_BLK_T_FLUSH,
  spec.VIRTIO_BLK_T_GET_ID,
  spec.VIRTIO_BLK_T_DISCARD,
  spec.VIRTIO_BLK_T_WRITE_ZEROES,
]
const BUFFERS = 0x8_0000

const length = fc.oneof(fc.constantFrom(0, 1, 16, 20, 512, 1024, 2 ** 32 - 1), fc.nat(2000))
const buffer = fc.record({
  address: fc.oneof(
    { weight: 8, arbitrary: fc.nat(0x4000).map((offset) => BUFFERS + offset) },
    fc.constantFrom(MEMORY_SIZE - 100, MEMORY_SIZE, 0x1_0000, 2 ** 52),
  ),
  length,
  writable: fc.boolean(),
})
const request = fc.record({
  type: fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...TYPES) }, fc.nat(20)),
  sector: fc.oneof(
    fc.bigInt({ min: 0n, max: BigInt(SECTORS + 1) }),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  ),
  range: fc.tuple(fc.nat(SECTORS), fc.nat(SECTORS + 1), fc.nat(3)),
  buffers: fc.array(buffer, { maxLength: 6, size: 'max' }),
  status: fc.boolean(),
  indirect: fc.boolean(),
})

/** Sends what a request says: a well-formed header, as a rule, and buffers of all kinds. */
function send(
  guest: BlkGuest,
  one: typeof request extends fc.Arbitrary<infer T> ? T : never,
  index: number,
): void {
  const header = 0x4_0000 + 64 * index
  guest.writeHeader(one.type, one.sector, header)
  const [sector, sectors, flags] = one.range
  guest.mock.write(header + 16, Uint8Array.of(sector, 0, 0, 0, 0, 0, 0, 0, sectors, 0, 0, 0, flags, 0, 0, 0))
  const status = one.status ? [{ address: 0x6_0000 + index, length: 1, writable: true }] : []
  const buffers = [{ address: header, length: one.buffers.length === 0 ? 32 : 16 }, ...one.buffers, ...status]
  if (guest.driver.add(buffers, { indirect: one.indirect }) === undefined) return
  guest.driver.publish()
  guest.notify(0)
}

describe('a hostile driver of virtio-blk', () => {
  it('has every request answered that has a place for the answer', () => {
    fc.assert(
      fc.property(fc.array(request, { maxLength: 30, size: 'max' }), (requests) => {
        const guest = new BlkGuest({ disk: new BufferDisk(new Uint8Array(SECTORS * SECTOR_SIZE)) })
        guest.begin()
        for (const [i, one] of requests.entries()) {
          guest.mock.write(0x6_0000 + i, Uint8Array.of(0xee))
          send(guest, { ...one, status: true, buffers: one.buffers.filter(({ writable }) => writable) }, i)
          const used = guest.driver.reapAll()
          expect(used.length).toBe(1)
          const [status] = guest.mock.read(0x6_0000 + i, 1)
          // Chains of more than 2^32 bytes are malformed: there is no telling where their status is.
          if ((guest.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0) guest.begin()
          else expect([0, 1, 2]).toContain(status)
        }
      }),
      { numRuns: 150 },
    )
  })
})
