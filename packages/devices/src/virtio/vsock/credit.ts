/**
 * Flow control of one connection, both ways (virtio 1.2, 5.10.6.3). All counts are free-running 32-bit numbers, as in the
 * packets. Pure arithmetic: whatever a guest claims, it harms only itself.
 */

/** Bytes that may be sent, and bytes that may come. */
export class Credit {
  /** Our receive buffer, in bytes. */
  readonly bufferSize: number
  #sent = 0
  #peerBuffer = 0
  #peerForwarded = 0
  #received = 0
  #forwarded = 0
  #advertised = 0

  constructor(bufferSize: number) {
    this.bufferSize = bufferSize
  }

  /** Takes `buf_alloc` and `fwd_cnt` of a packet: every packet has them. */
  update(bufferSize: number, forwarded: number): void {
    this.#peerBuffer = bufferSize
    this.#peerForwarded = forwarded
  }

  /** Bytes that the guest has room for. 0 as well where its numbers make no sense. */
  get sendable(): number {
    const inFlight = (this.#sent - this.#peerForwarded) >>> 0
    return inFlight < this.#peerBuffer ? this.#peerBuffer - inFlight : 0
  }

  /** Notes bytes as sent, at most {@link sendable}. */
  send(length: number): void {
    this.#sent = (this.#sent + length) >>> 0
  }

  /** Bytes that came and were not forwarded: never above `bufferSize`. */
  get held(): number {
    return (this.#received - this.#forwarded) >>> 0
  }

  /** Notes bytes as received. @returns false, with nothing done, where they are more than there is room for */
  receive(length: number): boolean {
    if (this.held + length > this.bufferSize) return false
    this.#received = (this.#received + length) >>> 0
    return true
  }

  /** Notes bytes as taken by whoever reads, at most {@link held}. */
  forward(length: number): void {
    this.#forwarded = (this.#forwarded + length) >>> 0
  }

  /**
   * Whether the guest should hear of room: when half of the buffer has become free without its knowledge. Sooner costs
   * packets; at half it can always send, unless the reader is behind.
   */
  get updateDue(): boolean {
    return (this.#forwarded - this.#advertised) >>> 0 >= this.bufferSize / 2
  }

  /** `fwd_cnt` for a packet that is being sent. */
  advertise(): number {
    this.#advertised = this.#forwarded
    return this.#forwarded
  }
}
