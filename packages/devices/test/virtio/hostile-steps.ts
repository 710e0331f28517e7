/** What a hostile driver does, one thing after the other: values that are as they should be, nearly so, and not at all. */
import type { MockBuffer, RawDescriptor } from '@vmm/virtio-queue/testing'
import fc from 'fast-check'
import { VIRTIO_MMIO_SIZE } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { BUFFERS, MEMORY_END } from './hostile-memory.ts'
import { ACK, DRIVER, DRIVER_OK, FEATURES_OK, VERSION_1 } from './support.ts'

const word = fc.integer({ min: 0, max: 0xffff_ffff })
const value = fc.oneof(
  fc.constantFrom(
    0,
    1,
    2,
    ACK,
    DRIVER,
    FEATURES_OK,
    DRIVER_OK,
    VERSION_1,
    8,
    16,
    0x1_0000,
    0x1_1000,
    BUFFERS,
  ),
  fc.nat(0x40),
  word,
)
const registers = Object.values(reg).filter((one) => typeof one === 'number' && one < VIRTIO_MMIO_SIZE)
const address = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: BUFFERS, max: MEMORY_END - 1 }) },
  { weight: 1, arbitrary: fc.nat(BUFFERS) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ...[MEMORY_END - 1, MEMORY_END, 0xbf_fff, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 0xffff, 2 ** 52, 2 ** 53 - 1],
    ),
  },
)
const length = fc.oneof(fc.nat(64), fc.nat(0x1_0000), fc.constantFrom(0, 1, 512, 4096, 2 ** 31, 2 ** 32 - 1))
const bytes = fc.uint8Array({ maxLength: 16 })
const flags = fc.oneof({ weight: 4, arbitrary: fc.nat(7) }, fc.nat(0xffff))
const raw = fc.record({ address, length, flags, next: fc.oneof(fc.nat(8), fc.nat(0xffff)) })

/** Two thirds of requests are right in one respect, as drivers are: those that are wrong in all get nowhere. */
function rarely<T>(arbitrary: fc.Arbitrary<T[]>): fc.Arbitrary<T[]> {
  return fc.oneof({ weight: 2, arbitrary: fc.constant<T[]>([]) }, { weight: 1, arbitrary })
}

/** One step of an attack. */
export type Step =
  | { readonly do: 'register'; readonly offset: number; readonly value: number; readonly size: number }
  | { readonly do: 'memory'; readonly address: number; readonly bytes: Uint8Array }
  /** Rings and what lies beside them: 64 KiB for each queue. */
  | {
      readonly do: 'ring'
      readonly queue: number
      readonly area: number
      readonly offset: number
      readonly bytes: Uint8Array
    }
  | {
      readonly do: 'request'
      readonly which: number
      readonly address: number
      /** Bytes that are not as they should be. */
      readonly wrong: readonly (readonly [at: number, byte: number])[]
      /** Buffers that are too many, in front of the last one. */
      readonly more: readonly MockBuffer[]
      /** How far the last buffer is too short. */
      readonly less: number
      readonly indirect: boolean
      readonly ring: boolean
    }
  | { readonly do: 'descriptors'; readonly queue: number; readonly raw: readonly RawDescriptor[] }
  | { readonly do: Deed; readonly value: number }

const DEEDS = ['begin', 'turn', 'turns', 'doorbell', 'host', 'wait', 'reap', 'stop', 'move'] as const
/** What takes no more than a number, or nothing, to say. */
type Deed = (typeof DEEDS)[number]

const request: fc.Arbitrary<Extract<Step, { do: 'request' }>> = fc.record({
  do: fc.constant('request' as const),
  which: fc.nat(0xff),
  address,
  wrong: rarely(fc.array(fc.tuple(fc.nat(0x40), fc.nat(0xff)), { maxLength: 3 })),
  more: rarely(fc.array(fc.record({ address, length, writable: fc.boolean() }), { maxLength: 2 })),
  less: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.nat(3)),
  indirect: fc.boolean(),
  ring: fc.boolean(),
})

export const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('register' as const),
      offset: fc.oneof(
        { weight: 9, arbitrary: fc.constantFrom(...registers) },
        { weight: 3, arbitrary: fc.nat(0x40).map((offset) => reg.VIRTIO_MMIO_CONFIG + offset) },
        fc.nat(VIRTIO_MMIO_SIZE - 1),
      ),
      value,
      size: fc.oneof({ weight: 9, arbitrary: fc.constant(4) }, fc.constantFrom(1, 2, 8)),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('memory' as const), address, bytes }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('ring' as const),
      queue: fc.nat(8),
      area: fc.nat(2),
      offset: fc.oneof(fc.nat(8), fc.nat(0x400)),
      bytes,
    }),
  },
  { weight: 8, arbitrary: request },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('descriptors' as const),
      queue: fc.nat(8),
      raw: fc.array(raw, { minLength: 1, maxLength: 5 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom(...DEEDS),
      value,
    }),
  },
)

/** A step of a driver that wants its requests served, for the most part: what each of them leaves behind adds up. */
export const servedStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: step },
  {
    weight: 5,
    arbitrary: request.map((one) => ({
      ...one,
      which: one.which & ~1,
      wrong: [],
      more: [],
      less: 0,
      ring: true,
    })),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom(...(['begin', 'turns', 'host', 'wait', 'reap'] as const)),
      value,
    }),
  },
)
