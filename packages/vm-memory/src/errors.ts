/**
 * The one error class of this package. Thrown for misuse by the host and failures of the host; what a guest can
 * trigger returns `undefined`, `false` or a short count instead.
 */

/** What went wrong. */
export type MemoryErrorCode =
  /** No region holds the address. */
  | 'ERR_MEMORY_INVALID_ADDRESS'
  /** The range begins in guest memory and runs out of it: see `expected` and `completed`. */
  | 'ERR_MEMORY_PARTIAL'
  /** An atomic access that is not naturally aligned, or a region that begins at an unaligned address. */
  | 'ERR_MEMORY_MISALIGNED'
  /** A size, length or alignment that makes no sense. */
  | 'ERR_MEMORY_INVALID_ARGUMENT'
  /** A 64-bit value of 2^53 or more, read as a number. */
  | 'ERR_MEMORY_VALUE_TOO_LARGE'
  /** A map without regions, or a region that is not in the map. */
  | 'ERR_MEMORY_NO_REGION'
  /** Two regions hold the same address. */
  | 'ERR_MEMORY_OVERLAP'
  /** The memory is plain, or not contiguous in this process: it has no host address. */
  | 'ERR_MEMORY_NO_HOST_ADDRESS'
  /** A mapping that reaches past the end of its file: an access there would kill the process. */
  | 'ERR_MEMORY_PAST_EOF'
  /** The host refused to give the memory: see `cause`. */
  | 'ERR_MEMORY_ALLOCATION'
  /** The host does not allow memory on demand (userfaultfd): see `cause`. */
  | 'ERR_MEMORY_USERFAULTFD'
  /** The provider of memory on demand cannot be opened, has failed, or has died: see `cause`, and `address` for which pages. */
  | 'ERR_MEMORY_PAGE_PROVIDER'

/** The numbers of a {@link MemoryError}, and its cause. */
export interface MemoryErrorDetails {
  /** The first address that could not be used. */
  readonly address?: number
  /** Bytes asked for. */
  readonly expected?: number
  /** Bytes done before the failure. */
  readonly completed?: number
  readonly cause?: unknown
}

/** A failure of this package. Match on `code`. */
export class MemoryError extends Error {
  override readonly name = 'MemoryError'
  readonly code: MemoryErrorCode
  /** The first address that could not be used, where there is one. */
  readonly address: number | undefined
  /** Bytes asked for, where a length is at fault. */
  readonly expected: number | undefined
  /** Bytes done before the failure. */
  readonly completed: number | undefined

  constructor(code: MemoryErrorCode, message: string, details: MemoryErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.address = details.address
    this.expected = details.expected
    this.completed = details.completed
  }
}

/** An address as people read it: `0x1000`, or the number itself where it is no address at all. */
export function hex(address: number): string {
  return Number.isInteger(address) && address >= 0 ? `0x${address.toString(16)}` : String(address)
}

/** The error of a range that begins outside guest memory, or runs out of it after `completed` bytes. */
export function partialError(address: number, expected: number, completed: number): MemoryError {
  if (completed === 0) {
    const message = `no guest memory at ${hex(address)}`
    return new MemoryError('ERR_MEMORY_INVALID_ADDRESS', message, { address, expected, completed })
  }
  const end = address + completed
  const message = `${expected} bytes at ${hex(address)}: guest memory ends at ${hex(end)}, after ${completed}`
  return new MemoryError('ERR_MEMORY_PARTIAL', message, { address: end, expected, completed })
}
