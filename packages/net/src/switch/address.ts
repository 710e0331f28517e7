/** The addresses at the beginning of a frame, as numbers of 48 bits. */
import { MAC_SIZE, type NetFrame } from '@vmm/devices/virtio'

/** 01:80:c2:00:00:00 to 0f: between neighbours, not for a bridge to pass on (IEEE 802.1Q, 8.6.3). */
const RESERVED_FIRST = 0x0180_c200_0000
const RESERVED_LAST = 0x0180_c200_000f

/** An address as a number. @param offset in `from`; default 0 */
export function macNumber(from: DataView, offset = 0): number {
  return from.getUint16(offset) * 2 ** 32 + from.getUint32(offset + 2)
}

/** Whether an address is a group's. */
export function isMulticast(mac: number): boolean {
  return (Math.floor(mac / 2 ** 40) & 1) === 1
}

/** Whether frames to an address stay with whoever gets them. */
export function isReserved(mac: number): boolean {
  return mac >= RESERVED_FIRST && mac <= RESERVED_LAST
}

/** Whom a frame is for, and who sent it. Each byte of the guest's is read once. One for each switch. */
export class FrameAddresses {
  destination = 0
  source = 0
  readonly #bytes = new Uint8Array(2 * MAC_SIZE)
  readonly #view = new DataView(this.#bytes.buffer)

  /** Reads those of a frame, and leaves it anywhere. */
  read(frame: NetFrame): void {
    frame.rewind()
    const bytes = this.#bytes
    let done = 0
    for (let n = frame.takePiece(bytes.length); n > 0; n = frame.takePiece(bytes.length - done)) {
      const { pieceBytes, pieceOffset } = frame
      for (let i = 0; i < n; i += 1) bytes[done + i] = pieceBytes[pieceOffset + i] as number
      done += n
    }
    this.destination = macNumber(this.#view, 0)
    this.source = macNumber(this.#view, MAC_SIZE)
  }
}
