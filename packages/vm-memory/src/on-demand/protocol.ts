/**
 * What the three threads tell each other: the owner of the memory, the thread that serves faults, and the provider's.
 */

/** The page size of x86-64, and of everything here. */
export const PAGE_SIZE = 4096

/** Contiguous guest memory, and where it is in this process. */
export interface HostRange {
  /** Guest address of the first byte. */
  readonly start: number
  /** In bytes. */
  readonly size: number
  /** Of the first byte, in this process. */
  readonly address: number
}

/** What a failure is between threads: what an error has that survives the way. */
export interface Failure {
  readonly message: string
  /** Guest address of the pages in question, where there are some. */
  readonly address?: number | undefined
  readonly cause?: Error | undefined
}

/** Where the provider comes from. */
export interface ProviderSource {
  /** URL of its module. */
  readonly module: string
  readonly data: unknown
}

/** What the thread of faults begins with. */
export interface FaultThreadData {
  readonly provider: ProviderSource
  readonly window: number
  readonly timeoutMs: number
  /** The thread that owns the memory, by the kernel's number. */
  readonly ownerThread: number
}

/** From the owner to the thread of faults. */
export type OwnerMessage =
  /** Serves memory by a userfaultfd, which is the thread's from now on. */
  | {
      readonly kind: 'serve'
      readonly id: number
      readonly fd: number
      readonly ranges: readonly HostRange[]
    }
  /** The owner knows of the failure: who waits can go on. */
  | { readonly kind: 'release'; readonly id: number }
  /** Closes the userfaultfd, and stores a 1 when that has been done. */
  | { readonly kind: 'forget'; readonly id: number; readonly done: Int32Array<SharedArrayBuffer> }
  /** Closes all of them likewise, then the provider, and ends. */
  | { readonly kind: 'close'; readonly done: Int32Array<SharedArrayBuffer> }

/** From the thread of faults to the owner. */
export type FaultThreadMessage =
  | { readonly kind: 'ready' }
  /** A page could not be had. */
  | { readonly kind: 'failed'; readonly id: number; readonly failure: Failure }
  /** The provider could not be loaded, or has died. */
  | { readonly kind: 'gone'; readonly failure: Failure }

/** From the thread of faults to the provider's. */
export type ProviderRequest =
  | {
      readonly kind: 'fill'
      readonly id: number
      readonly address: number
      readonly into: Uint8Array<ArrayBuffer>
    }
  | { readonly kind: 'close' }

/** From the provider's thread. */
export type ProviderReply =
  | { readonly kind: 'ready' }
  | {
      readonly kind: 'filled'
      readonly id: number
      readonly result: number | 'zeros'
      readonly into: Uint8Array<ArrayBuffer>
    }
  | { readonly kind: 'failed'; readonly id: number; readonly cause: Error }
  /** The provider could not be opened. */
  | { readonly kind: 'unopened'; readonly cause: Error }
  | { readonly kind: 'closed' }

/** Whatever was thrown, as an error that can be posted. */
export function postable(thrown: unknown): Error {
  if (!(thrown instanceof Error)) return new Error(String(thrown))
  // Its cause and the like may be anything, functions among them.
  const error = new Error(thrown.message)
  error.name = thrown.name
  if (thrown.stack !== undefined) error.stack = thrown.stack
  return error
}
