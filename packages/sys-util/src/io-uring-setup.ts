/**
 * Makes the rings of io_uring(7): io_uring_setup(2), the mappings, and where in them everything is (<linux/io_uring.h>).
 */
import { SystemError } from './errors.ts'
import { OwnedFd } from './fd.ts'
import { lastErrno, libc } from './libc.ts'
import { MAP_POPULATE, MAP_SHARED, Mapping } from './mmap.ts'

const SYS_IO_URING_SETUP = 425
const EPERM = 1
const EINVAL = 22
const ENOSYS = 38

const IORING_SETUP_CQSIZE = 1 << 3
const IORING_SETUP_CLAMP = 1 << 4
const IORING_SETUP_COOP_TASKRUN = 1 << 8
const IORING_SETUP_SINGLE_ISSUER = 1 << 12
/** Best first: no interrupts of this thread for completions, since it sleeps in the kernel anyway (5.19); one thread submits (6.0). */
const SETUP_FLAGS = [IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER, IORING_SETUP_COOP_TASKRUN, 0]

const IORING_FEAT_SINGLE_MMAP = 1 << 0
const IORING_FEAT_NODROP = 1 << 1
const IORING_FEAT_SUBMIT_STABLE = 1 << 2
/** Of Linux 5.6, which also has the operations that are used here. */
const IORING_FEAT_RW_CUR_POS = 1 << 3
const NEEDED =
  IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_RW_CUR_POS

const IORING_OFF_SQ_RING = 0
const IORING_OFF_SQES = 0x1000_0000
const SQE_SIZE = 64
const CQE_SIZE = 16

// struct io_uring_params: 10 words, then the offsets of either ring, 40 bytes each.
const PARAMS_SIZE = 120
const SQ_ENTRIES = 0
const CQ_ENTRIES = 4
const FLAGS = 8
const FEATURES = 20
const SQ_OFFSETS = 40
const CQ_OFFSETS = 80
// struct io_sqring_offsets and io_cqring_offsets, in bytes.
const HEAD = 0
const TAIL = 4
const SQ_ARRAY = 24
const CQES = 20

/** Rings, mapped. Indices are of 32-bit words in {@link words}. */
export interface Rings {
  readonly owned: OwnedFd
  readonly mappings: readonly Mapping[]
  /** How many entries each has: powers of two. */
  readonly sqEntries: number
  readonly cqEntries: number
  /** Both rings. */
  readonly words: Int32Array
  /** The submission queue's entries, 16 words each. */
  readonly sqes: Int32Array
  readonly sqTail: number
  readonly cqHead: number
  readonly cqTail: number
  /** Of the first completion, 4 words each. */
  readonly cqes: number
}

const REASONS: Readonly<Record<number, string>> = {
  [EPERM]: 'this process may not use it: kernel.io_uring_disabled, or a seccomp filter',
  [ENOSYS]: 'this kernel has none, or a seccomp filter hides it',
}

function setUp(entries: number, completions: number, params: DataView): OwnedFd {
  let errno = EINVAL
  for (const flags of SETUP_FLAGS) {
    new Uint8Array(params.buffer).fill(0)
    params.setUint32(FLAGS, flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP, true)
    params.setUint32(CQ_ENTRIES, completions, true)
    const fd: number = libc().io_uring_setup(SYS_IO_URING_SETUP, entries, params)
    if (fd >= 0) return new OwnedFd(fd)
    errno = lastErrno()
    // An older kernel does not know a flag.
    if (errno !== EINVAL) break
  }
  throw new SystemError('io_uring_setup', errno, REASONS[errno] ?? `${entries} entries`)
}

/**
 * @param entries of the submission queue
 * @param completions the entries of the completion queue
 * @throws SystemError
 */
export function setUpRings(entries: number, completions: number): Rings {
  const params = new DataView(new ArrayBuffer(PARAMS_SIZE))
  const owned = setUp(entries, completions, params)
  const mappings: Mapping[] = []
  const map = (size: number, offset: number): ArrayBuffer => {
    const mapping = new Mapping({ size, fd: owned.fd, offset, flags: MAP_SHARED | MAP_POPULATE })
    mappings.push(mapping)
    return mapping.view()
  }
  try {
    const get = (offset: number): number => params.getUint32(offset, true)
    if ((get(FEATURES) & NEEDED) !== NEEDED) {
      throw new SystemError('io_uring_setup', ENOSYS, 'Linux 5.6 or newer is needed')
    }
    const [sqEntries, cqEntries] = [get(SQ_ENTRIES), get(CQ_ENTRIES)]
    const array = get(SQ_OFFSETS + SQ_ARRAY)
    const ringSize = Math.max(array + sqEntries * 4, get(CQ_OFFSETS + CQES) + cqEntries * CQE_SIZE)
    const words = new Int32Array(map(ringSize, IORING_OFF_SQ_RING))
    // Which entry is submitted in which place: always the same.
    for (let i = 0; i < sqEntries; i++) words[(array >>> 2) + i] = i
    return {
      owned,
      mappings,
      sqEntries,
      cqEntries,
      words,
      sqes: new Int32Array(map(sqEntries * SQE_SIZE, IORING_OFF_SQES)),
      sqTail: get(SQ_OFFSETS + TAIL) >>> 2,
      cqHead: get(CQ_OFFSETS + HEAD) >>> 2,
      cqTail: get(CQ_OFFSETS + TAIL) >>> 2,
      cqes: get(CQ_OFFSETS + CQES) >>> 2,
    }
  } catch (error) {
    for (const mapping of mappings) mapping.close()
    owned.close()
    throw error
  }
}
