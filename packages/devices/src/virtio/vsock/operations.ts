/** The packets without payload that are to be sent on a connection: each once, however often it is asked for, in order. */
import * as spec from './spec.ts'

const ORDER = [
  spec.VIRTIO_VSOCK_OP_REQUEST,
  spec.VIRTIO_VSOCK_OP_RESPONSE,
  spec.VIRTIO_VSOCK_OP_CREDIT_UPDATE,
  spec.VIRTIO_VSOCK_OP_CREDIT_REQUEST,
  spec.VIRTIO_VSOCK_OP_SHUTDOWN,
  spec.VIRTIO_VSOCK_OP_RST,
] as const

/** A set of operations. */
export class Operations {
  /** A bit for each, by its number. */
  #bits = 0

  get isEmpty(): boolean {
    return this.#bits === 0
  }

  has(operation: number): boolean {
    return (this.#bits & (1 << operation)) !== 0
  }

  add(operation: number): void {
    this.#bits |= 1 << operation
  }

  /** Takes the one that comes first; 0 for none. */
  take(): number {
    if (this.#bits === 0) return 0
    for (const operation of ORDER) {
      if (!this.has(operation)) continue
      this.#bits &= ~(1 << operation)
      return operation
    }
    return 0
  }

  clear(): void {
    this.#bits = 0
  }
}
