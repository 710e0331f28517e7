/**
 * The registers of a virtio-mmio device as the guest reads them: a page that always holds what a read would give.
 *
 * No register of version 2 does anything when it is read, so that a VMM can put this page into guest memory as a
 * read-only slot: reads then cost the guest no exit, and writes still leave it. What depends on a selector is written
 * here before the access that wrote the selector returns. Write-only registers read 0.
 */
import { DevicesError } from '../../error.ts'
import * as reg from './registers.ts'

export class RegisterPage {
  /** {@link reg.VIRTIO_MMIO_SIZE} bytes. */
  readonly bytes: Uint8Array
  readonly #view: DataView
  readonly #words: Uint32Array

  /**
   * @param bytes zeroed or not, on a 4-byte boundary
   * @throws DevicesError ERR_DEVICE_OPTION for another size or boundary
   */
  constructor(bytes: Uint8Array) {
    if (bytes.length !== reg.VIRTIO_MMIO_SIZE || bytes.byteOffset % 4 !== 0) {
      const message = `a register page is ${reg.VIRTIO_MMIO_SIZE} aligned bytes, got ${bytes.length} at offset ${bytes.byteOffset}`
      throw new DevicesError('ERR_DEVICE_OPTION', message, { size: bytes.length })
    }
    this.bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
    bytes.fill(0)
  }

  /** A register. */
  get(register: number): number {
    return this.#words[register >>> 2] ?? 0
  }

  /**
   * Sets a register. A vCPU that reads the page sees this and everything that was written before it: the order
   * is needed where an interrupt follows.
   */
  set(register: number, value: number): void {
    Atomics.store(this.#words, register >>> 2, value)
  }

  /** What a read of the configuration space gives: 0 past its end. */
  readConfig(offset: number, size: number): number {
    if (offset + size > this.bytes.length) return 0
    if (size === 1) return this.#view.getUint8(offset)
    return size === 2 ? this.#view.getUint16(offset, true) : this.#view.getUint32(offset, true)
  }

  /**
   * Copies the configuration space, word by word: no aligned field of up to 32 bits is ever seen half-written. Nor does
   * any byte change that has not changed in `config`.
   */
  copyConfig(config: Uint8Array): void {
    for (let at = 0; at < config.length; at += 4) {
      let word = 0
      for (let i = Math.min(4, config.length - at) - 1; i >= 0; i -= 1) {
        word = word * 256 + (config[at + i] as number)
      }
      const register = reg.VIRTIO_MMIO_CONFIG + at
      if (this.get(register) !== word) this.set(register, word)
    }
  }
}
