import { describe, expect, it } from 'vitest'
import { MmioSlots, VIRTIO_MMIO_BASE, VIRTIO_MMIO_GSIS, VIRTIO_MMIO_SIZE } from '../../src/virtio/index.ts'
import { codeThrownBy } from '../support.ts'

describe('MmioSlots', () => {
  it('hands out pages one after the other, with an interrupt each, until there is none', () => {
    const slots = new MmioSlots()
    expect(slots.take()).toEqual({ address: 0xd000_0000, size: 0x1000, gsi: 5 })
    expect(slots.take()).toEqual({ address: 0xd000_1000, size: 0x1000, gsi: 6 })
    const rest = VIRTIO_MMIO_GSIS.slice(2).map((gsi, i) => ({
      address: VIRTIO_MMIO_BASE + (i + 2) * VIRTIO_MMIO_SIZE,
      size: VIRTIO_MMIO_SIZE,
      gsi,
    }))
    expect(slots.left).toBe(rest.length)
    expect(rest.map(() => slots.take())).toEqual(rest)
    expect(slots.left).toBe(0)
    expect(codeThrownBy(() => slots.take())).toBe('ERR_DEVICE_SLOTS')
  })

  it("leaves a PC's own interrupts alone: timer, keyboard, serial ports, clock, mouse, coprocessor", () => {
    for (const taken of [0, 1, 2, 3, 4, 8, 12, 13]) expect(VIRTIO_MMIO_GSIS).not.toContain(taken)
  })

  it('goes where the VMM says', () => {
    const slots = new MmioSlots({ base: 0xfeb0_0000, gsis: [40] })
    expect(slots.take()).toEqual({ address: 0xfeb0_0000, size: VIRTIO_MMIO_SIZE, gsi: 40 })
  })

  it.each([
    { base: 0x800 },
    { base: -0x1000 },
    { base: Number.NaN },
    { base: 2 ** 53 - 0x1000 },
    { gsis: [5, 5] },
    { gsis: [-1] },
    { gsis: [0.5] },
  ])('refuses %o', (options) => {
    expect(codeThrownBy(() => new MmioSlots(options))).toBe('ERR_DEVICE_OPTION')
  })
})
