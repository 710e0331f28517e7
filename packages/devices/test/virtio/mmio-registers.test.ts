import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { DevicesError } from '../../src/index.ts'
import { MmioTransport, VIRTIO_MMIO_SIZE } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { CountingInterrupt } from '../support.ts'
import { createGuest, DRIVER, FEATURE_A, FEATURE_B, Guest, TestDevice, VERSION_1 } from './support.ts'

const READ_ONLY = [
  reg.VIRTIO_MMIO_MAGIC_VALUE,
  reg.VIRTIO_MMIO_VERSION,
  reg.VIRTIO_MMIO_DEVICE_ID,
  reg.VIRTIO_MMIO_VENDOR_ID,
  reg.VIRTIO_MMIO_DEVICE_FEATURES,
  reg.VIRTIO_MMIO_QUEUE_NUM_MAX,
  reg.VIRTIO_MMIO_INTERRUPT_STATUS,
  reg.VIRTIO_MMIO_SHM_LEN_LOW,
  reg.VIRTIO_MMIO_SHM_BASE_HIGH,
  reg.VIRTIO_MMIO_CONFIG_GENERATION,
]

describe('virtio-mmio registers', () => {
  it('have the numbers of <linux/virtio_mmio.h>', () => {
    const header = readFileSync('/usr/include/linux/virtio_mmio.h', 'utf8')
    const numberOf = (name: string): number =>
      Number(new RegExp(`define VIRTIO_MMIO_${name}\\s+(0x[0-9a-f]+)`).exec(header)?.[1])
    const others: Record<string, string> = { QUEUE_AVAIL: 'QUEUE_DRIVER', QUEUE_USED: 'QUEUE_DEVICE' }
    const names = [...header.matchAll(/define VIRTIO_MMIO_(\w+)\s+0x/g)].map((match) => match[1] as string)
    const registers: Record<string, unknown> = { ...reg }
    const legacy = ['GUEST_PAGE_SIZE', 'QUEUE_ALIGN', 'QUEUE_PFN']
    const compared = names.filter((name) => !legacy.includes(name))
    expect(compared.length).toBeGreaterThan(25)
    for (const name of compared) {
      const ours = name.replace(/QUEUE_AVAIL|QUEUE_USED/, (part) => others[part] as string)
      expect([name, registers[`VIRTIO_MMIO_${ours}`]]).toEqual([name, numberOf(name)])
    }
  })

  it('say what is there: magic, version 2, the type, a vendor', () => {
    const guest = createGuest()
    expect(guest.read(reg.VIRTIO_MMIO_MAGIC_VALUE)).toBe(reg.VIRTIO_MMIO_MAGIC)
    expect(guest.read(reg.VIRTIO_MMIO_VERSION)).toBe(2)
    expect(guest.read(reg.VIRTIO_MMIO_DEVICE_ID)).toBe(guest.device.type)
    expect(guest.read(reg.VIRTIO_MMIO_VENDOR_ID)).toBe(reg.VIRTIO_MMIO_VENDOR)
  })

  it('ignore and count writes of what is read-only', () => {
    const guest = createGuest()
    for (const register of READ_ONLY) {
      const before = guest.read(register)
      guest.write(register, ~before >>> 0)
      expect(guest.read(register)).toBe(before)
    }
    expect(guest.transport.counters.ignored).toBe(READ_ONLY.length)
  })

  it.each([1, 2])('take no access of %i bytes', (size) => {
    const guest = createGuest()
    expect(guest.read(reg.VIRTIO_MMIO_MAGIC_VALUE, size)).toBe(0)
    guest.write(reg.VIRTIO_MMIO_STATUS, 1, size)
    expect(guest.status).toBe(0)
    expect(guest.transport.counters.ignored).toBe(2)
  })

  it('take no access across two', () => {
    const guest = createGuest()
    expect(guest.read(reg.VIRTIO_MMIO_MAGIC_VALUE + 2)).toBe(0)
    guest.write(reg.VIRTIO_MMIO_STATUS + 1, 1)
    guest.write(reg.VIRTIO_MMIO_STATUS - 1, 0x100)
    expect(guest.status).toBe(0)
  })

  it('read 0 where they are write-only or do not exist', () => {
    const guest = createGuest()
    guest.negotiate()
    guest.write(reg.VIRTIO_MMIO_QUEUE_NUM, 8)
    guest.write(reg.VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000)
    for (const register of [
      reg.VIRTIO_MMIO_DRIVER_FEATURES,
      reg.VIRTIO_MMIO_QUEUE_NUM,
      reg.VIRTIO_MMIO_QUEUE_DESC_LOW,
      reg.VIRTIO_MMIO_QUEUE_RESET,
      0x028,
      0x0c4,
    ]) {
      expect(guest.read(register)).toBe(0)
    }
  })
})

describe('features', () => {
  it("are offered in two pages, the device's and the transport's; further pages are empty", () => {
    const guest = createGuest()
    expect(guest.offered(0)).toBe((FEATURE_A | FEATURE_B | (1 << 28) | (1 << 29)) >>> 0)
    expect(guest.offered(1)).toBe((VERSION_1 | (1 << 8)) >>> 0)
    for (const page of [2, 3, 0x1_0000, 0xffff_ffff]) expect(guest.offered(page)).toBe(0)
    expect(guest.offered(0)).not.toBe(0)
  })

  it("of queues are the VMM's choice", () => {
    const features = { packed: true, indirect: false, eventIndex: false, ringReset: false }
    const guest = createGuest({ features })
    expect(guest.offered(0)).toBe(FEATURE_A | FEATURE_B)
    expect(guest.offered(1)).toBe(VERSION_1 | (1 << 2))
  })

  it('can be written between DRIVER and FEATURES_OK alone', () => {
    const guest = createGuest()
    guest.accept(0, FEATURE_A)
    guest.status = 1
    guest.accept(0, FEATURE_A)
    guest.status = DRIVER
    guest.accept(1, VERSION_1)
    guest.status = DRIVER | 8
    expect(guest.device.transport.featuresLow).toBe(0)
    guest.accept(0, FEATURE_A)
    expect(guest.device.transport.featuresLow).toBe(0)
    expect(guest.device.transport.featuresHigh).toBe(VERSION_1)
    expect(guest.transport.counters.ignored).toBe(3)
  })
})

describe('the register page', () => {
  it('is what is read by exits, at any time', () => {
    const page = new Uint8Array(VIRTIO_MMIO_SIZE)
    const guest = createGuest({ page })
    const view = new DataView(page.buffer)
    const compare = (): void => {
      const exits = new DataView(new ArrayBuffer(VIRTIO_MMIO_SIZE))
      for (let at = 0; at < VIRTIO_MMIO_SIZE; at += 4) exits.setUint32(at, guest.read(at), true)
      expect(Buffer.compare(page, new Uint8Array(exits.buffer))).toBe(0)
    }
    compare()
    guest.start()
    guest.device.transport.interruptQueue(0)
    guest.device.transport.configChanged()
    compare()
    expect(view.getUint32(reg.VIRTIO_MMIO_INTERRUPT_STATUS, true)).toBe(3)
    expect(guest.transport.page).toBe(page)
  })

  it('shows what a selector selects before the write that selects it is over', () => {
    const page = new Uint8Array(VIRTIO_MMIO_SIZE)
    const guest = createGuest({ page })
    const words = new Uint32Array(page.buffer)
    guest.write(reg.VIRTIO_MMIO_QUEUE_SEL, 1)
    expect(words[reg.VIRTIO_MMIO_QUEUE_NUM_MAX / 4]).toBe(guest.device.queueSizes[1])
    guest.write(reg.VIRTIO_MMIO_QUEUE_SEL, 2)
    expect(words[reg.VIRTIO_MMIO_QUEUE_NUM_MAX / 4]).toBe(0)
  })

  it('has the interrupt status before the interrupt is triggered', () => {
    const seen: number[] = []
    const guest = new Guest(new TestDevice(), {
      interrupt: { trigger: () => seen.push(guest.read(reg.VIRTIO_MMIO_INTERRUPT_STATUS)) },
    })
    guest.start()
    guest.device.transport.interruptQueue(0)
    guest.device.transport.configChanged()
    expect(seen).toEqual([reg.VIRTIO_MMIO_INT_VRING, 3])
  })

  it('must have the size of a page', () => {
    const options = { device: new TestDevice(), interrupt: new CountingInterrupt() }
    const memory = { findRegion: () => undefined }
    for (const page of [new Uint8Array(4095), new Uint8Array(5000).subarray(1, 4097)]) {
      expect(() => new MmioTransport({ ...options, memory, page })).toThrow(DevicesError)
    }
  })
})

describe('shared memory registers', () => {
  const select = (guest: Guest, id: number): readonly number[] => {
    guest.write(reg.VIRTIO_MMIO_SHM_SEL, id)
    return [
      reg.VIRTIO_MMIO_SHM_LEN_LOW,
      reg.VIRTIO_MMIO_SHM_LEN_HIGH,
      reg.VIRTIO_MMIO_SHM_BASE_LOW,
      reg.VIRTIO_MMIO_SHM_BASE_HIGH,
    ].map((register) => guest.read(register))
  }
  const ONES = 0xffff_ffff

  it('give -1 for a region that is not there', () => {
    expect(select(createGuest(), 0)).toEqual([ONES, ONES, ONES, ONES])
  })

  it('give length and address of one that is', () => {
    const sharedMemory = [{ id: 1, address: 0x12_3456_7000, size: 0x1_0000_2000 }]
    const guest = new Guest(new TestDevice({ sharedMemory }))
    expect(select(guest, 1)).toEqual([0x2000, 1, 0x3456_7000, 0x12])
    expect(select(guest, 0x101)).toEqual([ONES, ONES, ONES, ONES])
  })

  it('refuse regions that cannot be', () => {
    for (const sharedMemory of [
      [{ id: 256, address: 0, size: 1 }],
      [{ id: 0, address: 0, size: 0 }],
      [{ id: 0, address: 2 ** 53, size: 1 }],
      [
        { id: 1, address: 0, size: 1 },
        { id: 1, address: 1, size: 1 },
      ],
    ]) {
      expect(() => new Guest(new TestDevice({ sharedMemory }))).toThrow(DevicesError)
    }
  })
})

describe('configuration space', () => {
  it('is read in any width, and reads 0 past its end', () => {
    const guest = createGuest()
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG, 1)).toBe(1)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG + 1, 2)).toBe(0x0302)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG + 4)).toBe(0x0807_0605)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG + 8)).toBe(0x0a09)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG + 10)).toBe(0)
    expect(guest.read(VIRTIO_MMIO_SIZE - 4)).toBe(0)
    expect(guest.read(VIRTIO_MMIO_SIZE - 2)).toBe(0)
  })

  it('is written when there is a driver, inside its length, in any width', () => {
    const guest = createGuest()
    const before = [...guest.device.config]
    guest.write(reg.VIRTIO_MMIO_CONFIG, 0xff, 1)
    guest.status = 1
    guest.write(reg.VIRTIO_MMIO_CONFIG, 0xff, 1)
    guest.status = DRIVER
    guest.write(reg.VIRTIO_MMIO_CONFIG + 8, 0xffff_ffff)
    guest.write(reg.VIRTIO_MMIO_CONFIG + 10, 0xff, 1)
    expect([...guest.device.config]).toEqual(before)
    expect(guest.transport.counters.ignored).toBe(4)
    guest.write(reg.VIRTIO_MMIO_CONFIG + 9, 0xab, 1)
    guest.write(reg.VIRTIO_MMIO_CONFIG + 1, 0x1234, 2)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG)).toBe(0x0412_3401)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG + 8, 2)).toBe(0xab09)
  })

  it('has another generation after the device changed it, and the driver is told', () => {
    const guest = createGuest()
    guest.start()
    const before = guest.read(reg.VIRTIO_MMIO_CONFIG_GENERATION)
    guest.device.config[0] = 99
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG, 1)).toBe(1)
    guest.device.transport.configChanged()
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG, 1)).toBe(99)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG_GENERATION)).not.toBe(before)
    expect(guest.handleInterrupt()).toBe(reg.VIRTIO_MMIO_INT_CONFIG)
    expect(guest.interrupt.count).toBe(1)
  })

  it('changes without an interrupt before DRIVER_OK', () => {
    const guest = createGuest()
    guest.negotiate()
    guest.device.config[0] = 99
    guest.device.transport.configChanged()
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG, 1)).toBe(99)
    expect(guest.interrupt.count).toBe(0)
    expect(guest.read(reg.VIRTIO_MMIO_INTERRUPT_STATUS)).toBe(0)
  })
})
