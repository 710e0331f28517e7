import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { createGuest } from './support.ts'

const VRING = reg.VIRTIO_MMIO_INT_VRING
const CONFIG = reg.VIRTIO_MMIO_INT_CONFIG
const FAULT = { code: 'ERR_TEST', needsReset: true, message: 'a test' }

describe('interrupts', () => {
  it('say what they are for, and stay pending until acknowledged bit by bit', () => {
    const guest = createGuest()
    guest.start()
    guest.device.transport.interruptQueue(1)
    guest.device.transport.configChanged()
    expect(guest.read(reg.VIRTIO_MMIO_INTERRUPT_STATUS)).toBe(VRING | CONFIG)
    guest.write(reg.VIRTIO_MMIO_INTERRUPT_ACK, VRING)
    expect(guest.read(reg.VIRTIO_MMIO_INTERRUPT_STATUS)).toBe(CONFIG)
    guest.write(reg.VIRTIO_MMIO_INTERRUPT_ACK, 0xffff_fffe)
    expect(guest.read(reg.VIRTIO_MMIO_INTERRUPT_STATUS)).toBe(0)
    expect(guest.interrupt.count).toBe(2)
    expect(guest.transport.counters).toMatchObject({ queueInterrupts: 1, configInterrupts: 1 })
  })

  it('are an edge each, pending or not', () => {
    const guest = createGuest()
    guest.start()
    for (let i = 0; i < 3; i += 1) guest.device.transport.interruptQueue(0)
    expect(guest.interrupt.count).toBe(3)
  })

  it('do not come before DRIVER_OK, and cannot be acknowledged then', () => {
    const guest = createGuest()
    guest.negotiate()
    guest.device.transport.interruptQueue(0)
    expect(guest.interrupt.count).toBe(0)
    guest.write(reg.VIRTIO_MMIO_INTERRUPT_ACK, 3)
    expect(guest.transport.counters.ignored).toBe(1)
  })

  it('come and are acknowledged after DEVICE_NEEDS_RESET, too', () => {
    const guest = createGuest()
    guest.start()
    guest.device.transport.interruptQueue(0)
    guest.device.transport.fault(FAULT, 0)
    expect(guest.handleInterrupt()).toBe(VRING | CONFIG)
    expect(guest.read(reg.VIRTIO_MMIO_INTERRUPT_STATUS)).toBe(0)
  })
})

describe('acknowledgements by an eventfd', () => {
  it('leave the used-buffer bit set until the reset, the other one not', () => {
    const guest = createGuest({ ackDoorbell: true })
    guest.start()
    expect(guest.read(reg.VIRTIO_MMIO_INTERRUPT_STATUS)).toBe(0)
    guest.device.transport.interruptQueue(0)
    guest.device.transport.configChanged()
    expect(guest.handleInterrupt()).toBe(VRING | CONFIG)
    expect(guest.handleInterrupt()).toBe(VRING)
    guest.status = 0
    expect(guest.read(reg.VIRTIO_MMIO_INTERRUPT_STATUS)).toBe(0)
  })

  it('are offered as one more doorbell, for the value 1 alone', () => {
    expect(createGuest().transport.ackDoorbell).toBeUndefined()
    expect(createGuest({ ackDoorbell: true }).transport.ackDoorbell).toEqual({
      offset: reg.VIRTIO_MMIO_INTERRUPT_ACK,
      size: 4,
      value: VRING,
    })
  })
})

/**
 * Every interleaving of a device and Linux's handler, each step as the hardware makes it atomic. The device publishes
 * a buffer, then interrupts. An edge starts the handler, or makes it run once more.
 */
describe.each([
  { mode: 'exits', ackDoorbell: false },
  { mode: 'an eventfd', ackDoorbell: true },
])('no interrupt is lost with acknowledgements by $mode', ({ ackDoorbell }) => {
  it('in any order of the steps of both sides', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('device', 'handler', 'eventfd'), { maxLength: 80, size: 'max' }),
        (order) => {
          let edges = 0
          const guest = createGuest({ ackDoorbell, interrupt: { trigger: () => (edges = 1) } })
          guest.start()
          edges = 0
          let published = 0
          let seen = 0
          let isPublished = false
          let handlerAt = 0
          let status = 0
          let isAckDue = false
          const device = (): void => {
            if (isPublished) guest.device.transport.interruptQueue(0)
            else published += 1
            isPublished = !isPublished
          }
          const handler = (): boolean => {
            if (handlerAt === 0) {
              if (edges === 0) return false
              // The local APIC takes the edge, and can note another one.
              edges = 0
              status = guest.read(reg.VIRTIO_MMIO_INTERRUPT_STATUS)
            } else if (handlerAt === 1) {
              // KVM takes a 1 for the eventfd; whoever waits on that hears of it at any time later.
              if (ackDoorbell && status === VRING) isAckDue = true
              else guest.write(reg.VIRTIO_MMIO_INTERRUPT_ACK, status)
            } else if ((status & VRING) !== 0) seen = published
            handlerAt = (handlerAt + 1) % 3
            return true
          }
          for (const step of order) {
            if (step === 'device') device()
            else if (step === 'handler') handler()
            else if (isAckDue) {
              isAckDue = false
              guest.write(reg.VIRTIO_MMIO_INTERRUPT_ACK, VRING)
            }
          }
          if (isPublished) device()
          while (handler());
          expect(seen).toBe(published)
        },
      ),
      { numRuns: 1000 },
    )
  })
})
