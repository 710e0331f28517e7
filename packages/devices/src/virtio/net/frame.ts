/**
 * A frame on its way: the header of virtio-net and the bytes of an Ethernet frame, which lie in guest memory or in an
 * array. Reused, never allocated for a frame.
 */
import { type DescriptorChain, type GuestRegion, Reader, UNMAPPED } from '@vmm/virtio-queue'
import * as spec from './spec.ts'

const NO_BYTES = new Uint8Array(0)

/** What is to be sent, and what has yet to be done to it. The header is a copy: a guest cannot change it any more. */
export class NetFrame {
  /** `struct virtio_net_hdr_v1`: 12 bytes, checked where they came from a guest. `num_buffers` has no meaning here. */
  readonly header: Uint8Array = new Uint8Array(spec.VIRTIO_NET_HDR_SIZE)
  /** Bytes of the Ethernet frame. */
  length = 0
  /** Where the piece that {@link takePiece} gave last lies, */
  pieceBytes: Uint8Array = NO_BYTES
  /** and where in that, in bytes. */
  pieceOffset = 0
  /** The region of guest memory that the piece is in; `UNMAPPED` where it is in none. */
  pieceRegion: GuestRegion = UNMAPPED

  readonly #view = new DataView(this.header.buffer)
  readonly #reader = new Reader()
  #chain: DescriptorChain | undefined
  #bytes: Uint8Array = NO_BYTES
  #start = 0
  #taken = 0

  /** `VIRTIO_NET_HDR_F_*`. */
  get flags(): number {
    return this.#view.getUint8(spec.HDR_FLAGS_OFFSET)
  }

  /** `VIRTIO_NET_HDR_GSO_*`. */
  get gsoType(): number {
    return this.#view.getUint8(spec.HDR_GSO_TYPE_OFFSET)
  }

  /** Bytes of the headers in front of what is to be cut into packets: a hint, which may be wrong. */
  get hdrLen(): number {
    return this.#view.getUint16(spec.HDR_LEN_OFFSET, true)
  }

  /** Bytes of payload of each packet to be cut. */
  get gsoSize(): number {
    return this.#view.getUint16(spec.HDR_GSO_SIZE_OFFSET, true)
  }

  /** Where in the frame the checksum begins, in bytes. */
  get csumStart(): number {
    return this.#view.getUint16(spec.HDR_CSUM_START_OFFSET, true)
  }

  /** Where the checksum is to be written, in bytes from {@link csumStart} on. */
  get csumOffset(): number {
    return this.#view.getUint16(spec.HDR_CSUM_OFFSET_OFFSET, true)
  }

  /**
   * Makes this a plain frame in an array, with a header of zeros.
   * @param bytes used, not copied
   * @param start where the frame begins; default 0
   * @param length of the frame; default up to the end
   */
  setBytes(bytes: Uint8Array, start = 0, length: number = bytes.length - start): this {
    this.header.fill(0)
    this.#chain = undefined
    this.#bytes = bytes
    this.#start = start
    this.length = length
    this.#taken = 0
    return this
  }

  /** @internal Makes this what a chain holds. @returns false where it has no whole header */
  setChain(chain: DescriptorChain): boolean {
    this.#chain = chain
    this.#reader.attach(chain)
    this.length = Math.max(0, chain.readableBytes - spec.VIRTIO_NET_HDR_SIZE)
    this.#taken = 0
    return this.#reader.readFull(this.header)
  }

  /** Starts over with the first byte. A guest may have changed them: whoever judges bytes copies them first. */
  rewind(): void {
    this.#taken = 0
    if (this.#chain === undefined) return
    this.#reader.attach(this.#chain)
    this.#reader.skip(spec.VIRTIO_NET_HDR_SIZE)
  }

  /**
   * Takes bytes of the frame that lie together: at `pieceOffset` in `pieceBytes`.
   * @param limit the most to take; default all
   * @returns how many were taken; 0 at the end
   */
  takePiece(limit: number = Number.POSITIVE_INFINITY): number {
    if (this.#chain !== undefined) {
      const length = this.#reader.takePiece(limit)
      this.pieceRegion = this.#reader.pieceRegion
      this.pieceBytes = this.pieceRegion.bytes
      this.pieceOffset = this.#reader.pieceOffset
      return length
    }
    const length = Math.min(limit, this.length - this.#taken)
    this.pieceRegion = UNMAPPED
    this.pieceBytes = this.#bytes
    this.pieceOffset = this.#start + this.#taken
    this.#taken += length
    return length
  }

  /**
   * Copies bytes from where the frame stands on.
   * @param target with room for them
   * @param offset where in `target`; default 0
   * @param limit the most to copy, in bytes; default all
   * @returns how many were copied
   */
  copyTo(target: Uint8Array, offset = 0, limit: number = Number.POSITIVE_INFINITY): number {
    let done = 0
    for (let piece = this.takePiece(limit); piece > 0; piece = this.takePiece(limit - done)) {
      target.set(this.pieceBytes.subarray(this.pieceOffset, this.pieceOffset + piece), offset + done)
      done += piece
    }
    return done
  }
}
