/**
 * InterruptStatus, InterruptACK and the interrupt line of a virtio-mmio device (virtio 1.2, 4.2.2), as an edge.
 *
 * Why no interrupt is lost. The device publishes a used buffer (1), sets the bit (2) and makes an edge (3). The driver's
 * handler reads the status (a), acknowledges what it read (b) and then looks at the rings (c), as Linux's does. An edge
 * that comes while a handler runs makes it run again. So after each (3) a handler reads the status, and finds the
 * bit set, unless an acknowledgement has cleared it since (2).
 *
 * - Acknowledged by an exit, that is no harm: the vCPU is stopped until the bit is cleared, so the (c) of the handler that
 *   cleared it is after the clearing, which is after (1): that handler sees the buffer.
 * - Acknowledged by an ioeventfd, the vCPU goes on at once, and the clearing would come at any time later: after a (c) that
 *   was before (1), and after a (2) that it would undo. The handler of (3) would find 0, and the buffer would wait for
 *   ever. So that the used-buffer bit is never cleared then, from the first notification to the reset: it costs a driver
 *   that is interrupted for another reason, a change of configuration, one look at its rings, and nobody has to wait on
 *   that eventfd. The configuration bit is not part of it: only the value 1 goes to the eventfd, others exit.
 */
import type { Interrupt } from '../../host.ts'
import type { RegisterPage } from './register-page.ts'
import { VIRTIO_MMIO_INT_VRING, VIRTIO_MMIO_INTERRUPT_STATUS } from './registers.ts'

export class InterruptStatus {
  #bits = 0
  readonly #page: RegisterPage
  readonly #interrupt: Interrupt
  readonly #sticky: number

  /** @param ackDoorbell whether acknowledgements of used buffers go to an eventfd */
  constructor(page: RegisterPage, interrupt: Interrupt, ackDoorbell: boolean) {
    this.#page = page
    this.#interrupt = interrupt
    this.#sticky = ackDoorbell ? VIRTIO_MMIO_INT_VRING : 0
  }

  get bits(): number {
    return this.#bits
  }

  /** Sets bits and makes an edge. Even where they are set: the driver may have read them already. */
  raise(bits: number): void {
    this.set(this.#bits | bits)
    this.#interrupt.trigger()
  }

  /** The driver acknowledges bits. Its vCPU is stopped while this runs. */
  acknowledge(bits: number): void {
    this.set(this.#bits & ~(bits & ~this.#sticky))
  }

  /** Sets all bits, without an edge. */
  set(bits: number): void {
    if (bits === this.#bits) return
    this.#bits = bits
    this.#page.set(VIRTIO_MMIO_INTERRUPT_STATUS, bits)
  }

  /** Makes the edge of bits that are pending. */
  resume(): void {
    if (this.#bits !== 0) this.#interrupt.trigger()
  }
}
