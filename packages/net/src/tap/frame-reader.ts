/** Reads the frames that there are for a guest: one at a time where there are few, and many by one call where there were many. */
import type { NetReceiver } from '@vmm/devices/virtio'
import type { FrameBatch } from './frame-batch.ts'
import type { FrameIo } from './frame-io.ts'

const EINTR = 4
const EAGAIN = 11

/** One for each queue. */
export class FrameReader {
  /** Of the last {@link read}: 0 where there was no more room, or nothing more. */
  errno = 0
  readonly #io: FrameIo
  readonly #batch: FrameBatch
  /** How many there were when there were some. */
  #lately = 0

  constructor(io: FrameIo, batch: FrameBatch) {
    this.#io = io
    this.#batch = batch
  }

  /**
   * Reads frames into the guest's buffers, and shows them.
   * @param frameBytes the most that a frame can have, its header among them
   * @param most frames to read
   * @returns how many there were
   */
  read(fd: number, receiver: NetReceiver, frameBytes: number, most: number): number {
    let count = 0
    /** How many to ask for at once: as many as there were lately. What is not there costs as well. */
    let expected = this.#lately
    this.errno = 0
    while (count < most) {
      const asked = this.#batch.read(fd, receiver, frameBytes, Math.min(expected, most - count))
      if (asked > 0) {
        const got = this.#give(receiver, asked)
        count += got
        if (got < asked) break
        // Perhaps that was all: one more shows it.
        expected = 0
        continue
      }
      if (receiver.reserve(frameBytes) === 0) break
      const result = this.#io.read(fd, receiver)
      if (result < 0) {
        if (result !== -EAGAIN) this.errno = -result
        break
      }
      count += 1
      expected = count
    }
    receiver.flush()
    if (count > 0) this.#lately = count
    return count
  }

  /** Gives the guest what the batch has read. @returns how many frames */
  #give(receiver: NetReceiver, asked: number): number {
    const { results } = this.#batch
    let got = 0
    for (let i = 0; i < asked; i += 1) {
      const result = results[i] as number
      if (result > 0) got += 1
      else if (result !== -EAGAIN && result !== -EINTR) this.errno = -result
    }
    receiver.commitMany(results, asked)
    return got
  }
}
