/**
 * The address of a buffer, for the few kernel structures that hold pointers to others.
 */
import koffi from 'koffi'

/**
 * Where a buffer's first byte lies in this process. Buffers do not move; the caller keeps a reference to it for as
 * long as the kernel may use the address, since a collected buffer's memory is somebody else's.
 */
export function addressOf(buffer: NodeJS.ArrayBufferView): bigint {
  return koffi.address(buffer)
}
