/**
 * Moves frames between a tap's descriptor and guest memory: one readv(2) or writev(2) each, straight where the memory has an
 * address in this process, by a buffer where it has none.
 */
import type { NetFrame, NetReceiver } from '@vmm/devices/virtio'
import { FRAME_BYTES_MAX, NetFrame as Frame, VIRTIO_NET_HDR_SIZE } from '@vmm/devices/virtio'
import { addressOf, IOV_MAX, IoVector } from '@vmm/sys-util'
import type { GuestRegion } from '@vmm/virtio-queue'

/** preadv2(2) and pwritev2(2): no position, as readv(2) and writev(2). */
const NO_POSITION = -1
const EINTR = 4

/** One for each tap: it is used again for each frame, and allocates nothing. */
export class FrameIo {
  readonly #vector = new IoVector(IOV_MAX)
  readonly #header = new Uint8Array(VIRTIO_NET_HDR_SIZE)
  readonly #headerAddress = Number(addressOf(this.#header))
  /** For memory without an address, and a byte for what is too long. */
  readonly #bounce = new Uint8Array(VIRTIO_NET_HDR_SIZE + FRAME_BYTES_MAX + 1)
  readonly #bounceAddress = Number(addressOf(this.#bounce))
  readonly #frame = new Frame()
  /** Where the region seen last lies. */
  #region: GuestRegion | undefined
  #base = 0

  /**
   * Writes a frame, from its first byte on.
   * @returns 0 or more; or the negative errno
   */
  write(fd: number, frame: NetFrame): number {
    this.#header.set(frame.header)
    this.#gather(frame)
    for (;;) {
      const result = this.#vector.writeTo(fd, NO_POSITION)
      if (result !== -EINTR) return result
    }
  }

  /**
   * Reads a frame into the buffers that a receiver has reserved. One that does not fit is dropped, and counted there.
   * @returns the bytes of the frame, whatever became of it; or the negative errno
   */
  read(fd: number, receiver: NetReceiver): number {
    const vector = this.#vector
    vector.clear()
    for (let length = receiver.takePiece(); length > 0; length = receiver.takePiece()) {
      const { pieceRegion } = receiver
      if (pieceRegion.hostAddress === undefined) return this.#readBounced(fd, receiver)
      if (vector.count === IOV_MAX - 1) break
      vector.push(this.#baseOf(pieceRegion) + receiver.pieceOffset, length)
    }
    const room = vector.byteLength
    // The kernel cuts what does not fit, and does not say so: a byte more shows it.
    vector.push(this.#bounceAddress, 1)
    const result = this.#read(fd)
    if (result > room) receiver.drop()
    else if (result > 0) receiver.commit(result)
    return result
  }

  /** Reads a frame for nobody. @returns as {@link read} */
  discard(fd: number): number {
    this.#vector.clear()
    this.#vector.push(this.#bounceAddress, this.#bounce.length)
    return this.#read(fd)
  }

  #readBounced(fd: number, receiver: NetReceiver): number {
    const result = this.discard(fd)
    if (result < 0) return result
    const frame = this.#frame.setBytes(this.#bounce, VIRTIO_NET_HDR_SIZE, result - VIRTIO_NET_HDR_SIZE)
    frame.header.set(this.#bounce.subarray(0, VIRTIO_NET_HDR_SIZE))
    receiver.deliver(frame)
    return result
  }

  #read(fd: number): number {
    for (;;) {
      const result = this.#vector.readFrom(fd, NO_POSITION)
      if (result !== -EINTR) return result
    }
  }

  /** The header, and the pieces of a frame. */
  #gather(frame: NetFrame): void {
    const vector = this.#vector
    vector.clear()
    vector.push(this.#headerAddress, VIRTIO_NET_HDR_SIZE)
    for (let length = frame.takePiece(); length > 0; length = frame.takePiece()) {
      const { pieceRegion } = frame
      if (pieceRegion.hostAddress === undefined || vector.count === IOV_MAX) {
        this.#gatherBounced(frame)
        return
      }
      vector.push(this.#baseOf(pieceRegion) + frame.pieceOffset, length)
    }
  }

  #gatherBounced(frame: NetFrame): void {
    frame.rewind()
    const length = frame.copyTo(this.#bounce)
    this.#vector.clear()
    this.#vector.push(this.#headerAddress, VIRTIO_NET_HDR_SIZE)
    this.#vector.push(this.#bounceAddress, length)
  }

  /** Where a region lies: asked once for all pieces that are in the same one, since a bigint costs. */
  #baseOf(region: GuestRegion): number {
    if (region !== this.#region) {
      this.#region = region
      this.#base = Number(region.hostAddress)
    }
    return this.#base
  }
}
