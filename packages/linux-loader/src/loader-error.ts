/**
 * The one error class of this package. A message is one sentence that a person who typed a wrong path can act on; the
 * numbers in it are repeated in {@link LoaderError.details} for programs.
 */

/** What went wrong. Match on this, never on the message. */
export type LoaderErrorCode =
  /** An argument is outside its documented range. */
  | 'ERR_LOADER_ARGUMENT'
  /** An image file cannot be opened or read, or is no regular file. */
  | 'ERR_IMAGE_FILE'
  /** The image is neither an ELF file nor a bzImage. */
  | 'ERR_KERNEL_UNKNOWN'
  /** The image ends before what its headers promise. */
  | 'ERR_KERNEL_TRUNCATED'
  /** A kernel for 32-bit x86, or one without a 64-bit entry point. */
  | 'ERR_KERNEL_32BIT'
  /** A big-endian ELF file. */
  | 'ERR_KERNEL_BIG_ENDIAN'
  /** An ELF file for another machine than x86-64. */
  | 'ERR_KERNEL_MACHINE'
  /** Headers that contradict themselves. */
  | 'ERR_KERNEL_INVALID'
  /** Part of the kernel would lie outside guest memory. */
  | 'ERR_KERNEL_DOES_NOT_FIT'
  /** The kernel would load below the address that the caller allows. */
  | 'ERR_KERNEL_TOO_LOW'
  /** A PVH note is there but malformed, or PVH was asked for and there is no note. */
  | 'ERR_KERNEL_PVH_NOTE'
  /** The payload's compression is not one of those known. */
  | 'ERR_PAYLOAD_UNKNOWN'
  /** The payload does not decompress. */
  | 'ERR_PAYLOAD_CORRUPT'
  /** The optional library for the payload's compression is not installed, or does not load on this host. */
  | 'ERR_PAYLOAD_LIBRARY'
  /** The payload decompresses to more than the limit. */
  | 'ERR_PAYLOAD_TOO_LARGE'
  /** The initrd has no bytes. */
  | 'ERR_INITRD_EMPTY'
  /** No hole in low guest memory is large enough for the initrd. */
  | 'ERR_INITRD_DOES_NOT_FIT'
  /** The command line exceeds its capacity, or the kernel's. */
  | 'ERR_CMDLINE_TOO_LONG'
  /** The command line would lie outside guest memory. */
  | 'ERR_CMDLINE_DOES_NOT_FIT'
  /** A character that is no printable ASCII. */
  | 'ERR_CMDLINE_CHARACTER'
  /** A space in a key, or in a value without quotes. */
  | 'ERR_CMDLINE_SPACE'
  /** An `=` in a key, or in a value without quotes. */
  | 'ERR_CMDLINE_EQUALS'
  /** A key without a value, or an empty key or text. */
  | 'ERR_CMDLINE_EMPTY'
  /** Quotes that do not pair up, or stand inside a value. */
  | 'ERR_CMDLINE_QUOTE'
  /** Arguments for init where there are none for the kernel. */
  | 'ERR_CMDLINE_NO_BOOT_ARGS'
  /** More memory map entries than the zero page holds. */
  | 'ERR_E820_TOO_MANY'
  /** A boot structure would lie outside guest memory. */
  | 'ERR_TABLE_DOES_NOT_FIT'
  /** Two things would lie at the same guest address. */
  | 'ERR_LAYOUT_OVERLAP'
  /** A CPU count that the MP table cannot hold. */
  | 'ERR_CPU_COUNT'

/** Thrown by everything in this package: bad input and misuse alike. */
export class LoaderError extends Error {
  override readonly name = 'LoaderError'
  /** Stable, for programs. */
  readonly code: LoaderErrorCode
  /** The numbers of the message: addresses and sizes in bytes. */
  readonly details: Readonly<Record<string, number | string>>

  constructor(
    code: LoaderErrorCode,
    message: string,
    details: Readonly<Record<string, number | string>> = {},
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.code = code
    this.details = details
  }
}

/** An address for a message. */
export const hex = (value: number): string => `0x${value.toString(16)}`

/** A size for a message: whole MiB or KiB where it is one, else bytes, else MiB to one digit. */
export const formatSize = (bytes: number): string => {
  const mib = bytes / 2 ** 20
  if (Number.isInteger(mib)) return `${mib} MiB`
  if (mib >= 1) return `${mib.toFixed(1)} MiB`
  return Number.isInteger(bytes / 1024) ? `${bytes / 1024} KiB` : `${bytes} bytes`
}

/**
 * A range for a message, its end included.
 */
export const formatRange = (start: number, length: number): string =>
  length === 0 ? `${hex(start)} (empty)` : `${hex(start)}-${hex(start + length - 1)}`
