/** An output of a VM that only counts what the guest prints. */
import type { BufferingStream } from '@vmm/devices'

export interface CountingOutput extends BufferingStream {
  /** Bytes so far. */
  readonly printed: number
}

export function countingOutput(): CountingOutput {
  let printed = 0
  return {
    writable: true,
    writableLength: 0,
    get printed() {
      return printed
    },
    write(bytes: Uint8Array) {
      printed += bytes.length
      return true
    },
  }
}
