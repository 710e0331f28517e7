/**
 * A request on its way: where in guest memory its data is, as the kernel takes that, and how far it has come.
 */
import type { BlockRequest } from '@vmm/devices/virtio'
import { DISK_READ } from '@vmm/devices/virtio'
import { addressOf, type DirectIoAlignment, IOV_MAX, IoVector } from '@vmm/sys-util'
import type { GuestRegion } from '@vmm/virtio-queue'
import { BOUNCE_BYTES, type Bounce } from './bounce.ts'

/** Most requests have fewer pieces. */
const PIECES = 8
const GROWTH = 8

/** Of what has no request: it is not asked for anything. */
const NO_REQUEST = {} as BlockRequest

/** Used again for one request after another. */
export class Job {
  /** Which of a disk's jobs this is. */
  readonly index: number
  request: BlockRequest = NO_REQUEST
  /** From the file to memory, or the other way. */
  toMemory = true
  /** Of the next byte, on the disk. */
  position = 0
  /** Bytes that are still to be moved. */
  left = 0
  /** Where the next of them are in memory. */
  vector: IoVector = new IoVector(PIECES)
  /** What they go through, while they are on their way. */
  bounce: Bounce | undefined = undefined
  /** Whether O_DIRECT takes them as they are. */
  isAligned = true
  readonly #alignment: DirectIoAlignment | undefined
  /** Where the region seen last lies. */
  #region: GuestRegion | undefined
  #base = 0

  constructor(index: number, alignment: DirectIoAlignment | undefined) {
    this.index = index
    this.#alignment = alignment
  }

  /** Begins with a request. */
  start(request: BlockRequest): void {
    this.request = request
    this.toMemory = request.operation === DISK_READ
    this.position = request.position
    this.left = request.length
    this.isAligned = true
    this.vector.clear()
  }

  /** Lets go of it. */
  end(): void {
    this.request = NO_REQUEST
  }

  /**
   * Sees to it that there is something in the vector to be moved.
   * @returns false where the request has less memory than it says, or it lies in more pieces than one block can have
   */
  fill(): boolean {
    const block = this.#alignment?.file ?? 1
    const { vector } = this
    if (vector.byteLength < Math.min(this.left, block)) {
      if (vector.byteLength === 0) vector.clear()
      else vector.compact()
      return this.#gather() && this.vector.byteLength >= Math.min(this.left, block)
    }
    return true
  }

  /** How many bytes are moved next, in bytes: of the vector, or through a buffer. */
  get chunk(): number {
    const { byteLength } = this.vector
    if (this.bounce === undefined) return byteLength
    const most = Math.min(byteLength, BOUNCE_BYTES)
    return most - (most % (this.#alignment?.file ?? 1))
  }

  /** Notes that so many bytes were moved. */
  advance(bytes: number): void {
    this.position += bytes
    this.left -= bytes
    this.vector.advance(bytes)
  }

  /** As many pieces as the kernel takes at once. */
  #gather(): boolean {
    const { request, left } = this
    const alignment = this.#alignment
    const cursor = this.toMemory ? request.target : request.source
    let bytes = this.vector.byteLength
    while (bytes < left) {
      if (this.vector.count === this.vector.capacity && !this.#grow()) return true
      const length = cursor.takePiece(left - bytes)
      if (length === 0) return false
      const address = this.#baseOf(cursor.pieceRegion) + cursor.pieceOffset
      if (alignment !== undefined && (address % alignment.memory !== 0 || length % alignment.file !== 0)) {
        this.isAligned = false
      }
      this.vector.push(address, length)
      bytes += length
    }
    return true
  }

  #grow(): boolean {
    const { vector } = this
    if (vector.capacity === IOV_MAX) return false
    const larger = new IoVector(Math.min(vector.capacity * GROWTH, IOV_MAX))
    for (let i = 0; i < vector.count; i += 1) larger.push(vector.pieceAddress(i), vector.pieceLength(i))
    this.vector = larger
    return true
  }

  #baseOf(region: GuestRegion): number {
    if (region !== this.#region) {
      this.#region = region
      // A plain buffer does not move, and the request has it until it is completed.
      this.#base = Number(region.hostAddress ?? addressOf(region.bytes))
    }
    return this.#base
  }
}
