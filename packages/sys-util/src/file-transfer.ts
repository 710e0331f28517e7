/**
 * Moves bytes between a file and pieces of memory, such as a device's request is made of: straight, by the kernel, where
 * the memory has an address in this process; over views where it has none.
 */
import { readSync, writeSync } from 'node:fs'
import { IOV_MAX, IoVector, preadInto, pwriteFrom } from './transfer.ts'

const EINTR = 4
const EFAULT = 14
const EIO = 5

/** From the file to memory. */
export const TO_MEMORY = true
/** From memory to the file. */
export const TO_FILE = false

/** Memory that pieces lie in. */
export interface MemoryRegion {
  /** All of the region. */
  readonly bytes: Uint8Array
  /** Where `bytes` begin in this process, undefined where the kernel is not to be given addresses. */
  readonly hostAddress?: bigint | undefined
}

/** Pieces of memory, one after another. `Reader` and `Writer` of `@vmm/virtio-queue` are such. */
export interface MemoryPieces {
  /** Where the piece taken last lies, */
  readonly pieceRegion: MemoryRegion
  /** and where in that, in bytes. */
  readonly pieceOffset: number
  /**
   * Takes a piece.
   * @param limit the most to take, in bytes
   * @returns its length in bytes; 0 where there is no more
   */
  takePiece(limit: number): number
}

/** One for each file, or for several: it is used again for each transfer, and allocates nothing. */
export class FileTransfer {
  readonly #vector = new IoVector(IOV_MAX)
  readonly #addresses = new Float64Array(IOV_MAX)
  readonly #lengths = new Float64Array(IOV_MAX)
  #count = 0
  #bytes = 0
  /** Where the region seen last lies. */
  #region: MemoryRegion | undefined
  #base = 0

  /**
   * Moves bytes, whatever number of system calls that takes.
   * @param pieces of at least `length` bytes
   * @param toMemory {@link TO_MEMORY} or {@link TO_FILE}
   * @param position in the file, in bytes
   * @returns how many were moved: fewer than asked at the end of the file, and where not all that was to be written could be; or the
   * negative errno, where none was written, or not all that there is was read; -EFAULT where the pieces end early
   */
  run(fd: number, pieces: MemoryPieces, toMemory: boolean, position: number, length: number): number {
    this.#count = 0
    this.#bytes = 0
    let taken = 0
    let done = 0
    while (taken < length) {
      const piece = pieces.takePiece(length - taken)
      if (piece === 0) return -EFAULT
      taken += piece
      const region = pieces.pieceRegion
      const isGathered = region.hostAddress !== undefined
      if (isGathered) {
        this.#gather(region, pieces.pieceOffset, piece)
        if (this.#count < IOV_MAX && taken < length) continue
      }
      let gathered = this.#bytes
      let moved = this.#gathered(fd, toMemory, position + done)
      if (moved === gathered && !isGathered) {
        done += moved
        gathered = piece
        moved = throughView(fd, region, pieces.pieceOffset, toMemory, position + done, piece)
      }
      // What follows has its place behind what is missing.
      if (moved < gathered) return shortOf(moved, done, toMemory)
      done += moved
    }
    return done
  }

  #gather(region: MemoryRegion, offset: number, length: number): void {
    if (region !== this.#region) {
      this.#region = region
      this.#base = Number(region.hostAddress)
    }
    this.#addresses[this.#count] = this.#base + offset
    this.#lengths[this.#count] = length
    this.#count += 1
    this.#bytes += length
  }

  /** Moves what was gathered: in one call, unless the kernel does not do all of it at once. */
  #gathered(fd: number, toMemory: boolean, position: number): number {
    const count = this.#count
    const bytes = this.#bytes
    this.#count = 0
    this.#bytes = 0
    if (count === 0) return 0
    if (count === 1) return moveAll(fd, this.#addresses[0] as number, bytes, toMemory, position)
    const vector = this.#vector
    vector.clear()
    for (let i = 0; i < count; i += 1) vector.push(this.#addresses[i] as number, this.#lengths[i] as number)
    let done: number
    do {
      done = toMemory ? vector.readFrom(fd, position) : vector.writeTo(fd, position)
    } while (done === -EINTR)
    return done < 0 || done === bytes ? done : this.#rest(fd, toMemory, position, count, done)
  }

  /** What is left of the pieces after the first `moved` bytes, one by one. At the end of the file it is short again. */
  #rest(fd: number, toMemory: boolean, position: number, count: number, moved: number): number {
    let done = moved
    let before = 0
    for (let i = 0; i < count; i += 1) {
      const length = this.#lengths[i] as number
      const skip = Math.min(Math.max(done - before, 0), length)
      before += length
      const address = (this.#addresses[i] as number) + skip
      const result = moveAll(fd, address, length - skip, toMemory, position + done)
      if (result < length - skip) return shortOf(result, done, toMemory)
      done += result
    }
    return done
  }
}

/**
 * What is said of a transfer of which not all was done.
 * @param moved at last: bytes, or the negative errno
 * @param done before that
 */
function shortOf(moved: number, done: number, toMemory: boolean): number {
  if (moved >= 0) return done + moved
  // A read that is short is the end of the file to whoever asked.
  return toMemory || done === 0 ? moved : done
}

function moveAll(fd: number, address: number, length: number, toMemory: boolean, position: number): number {
  let done = 0
  while (done < length) {
    const result = toMemory
      ? preadInto(fd, address + done, length - done, position + done)
      : pwriteFrom(fd, address + done, length - done, position + done)
    if (result === -EINTR) continue
    if (result < 0) return shortOf(result, done, toMemory)
    if (result === 0) break
    done += result
  }
  return done
}

function throughView(
  fd: number,
  region: MemoryRegion,
  offset: number,
  toMemory: boolean,
  position: number,
  length: number,
): number {
  let done = 0
  try {
    while (done < length) {
      const result = toMemory
        ? readSync(fd, region.bytes, offset + done, length - done, position + done)
        : writeSync(fd, region.bytes, offset + done, length - done, position + done)
      if (result === 0) break
      done += result
    }
  } catch (error) {
    const { errno = -EIO } = error as NodeJS.ErrnoException
    return shortOf(errno, done, toMemory)
  }
  return done
}
