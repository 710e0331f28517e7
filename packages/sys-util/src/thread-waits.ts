/**
 * Whether the kernel has made this thread wait: getrusage(2), RUSAGE_THREAD. A clock alone does not tell that from a thread that
 * others have kept from its CPU.
 */
import { lastError, libc } from './libc.ts'

const RUSAGE_THREAD = 1
// struct rusage: two times of 16 bytes, then 14 words of 64 bits. ru_nvcsw is the last but one.
const RUSAGE_SIZE = 144
const RU_NVCSW = 128

const usage = new DataView(new ArrayBuffer(RUSAGE_SIZE))

/**
 * How many times this thread has given up its CPU of itself: in system calls that waited. It takes 300 ns.
 * @throws SystemError
 */
export function countThreadWaits(): number {
  if (libc().getrusage(RUSAGE_THREAD, usage) < 0) throw lastError('getrusage')
  return usage.getUint32(RU_NVCSW + 4, true) * 0x1_0000_0000 + usage.getUint32(RU_NVCSW, true)
}
