/**
 * Descriptors over Unix sockets: SCM_RIGHTS of unix(7). Node.js has the sockets; it does not show their messages'
 * ancillary data. Nothing here blocks.
 */
import { addressOf } from './address.ts'
import { SystemError } from './errors.ts'
import { closeFd, OwnedFd } from './fd.ts'
import { lastErrno, lastError, libc } from './libc.ts'

const AF_UNIX = 1
const SOCK_CLOEXEC = 0o2000000
const SOCK_NONBLOCK = 0o4000
const SOL_SOCKET = 1
const SO_TYPE = 3
const SCM_RIGHTS = 1
const MSG_CTRUNC = 0x8
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
const MSG_CMSG_CLOEXEC = 0x4000_0000
const EAGAIN = 11
const EINVAL = 22
const EMSGSIZE = 90

/** The most descriptors that one message carries: SCM_MAX_FD. */
export const SCM_MAX_FD = 253

const SOCKET_TYPES = { stream: 1, dgram: 2, seqpacket: 5 } as const

// struct msghdr, struct iovec and struct cmsghdr of a 64-bit system.
const MSGHDR_SIZE = 56
const MSG_IOV_OFFSET = 16
const MSG_IOVLEN_OFFSET = 24
const MSG_CONTROL_OFFSET = 32
const MSG_CONTROLLEN_OFFSET = 40
const MSG_FLAGS_OFFSET = 48
const IOVEC_SIZE = 16
const IOV_LEN_OFFSET = 8
const CMSG_LEVEL_OFFSET = 8
const CMSG_TYPE_OFFSET = 12
const CMSG_DATA_OFFSET = 16
const FD_SIZE = 4

/**
 * A connected pair of Unix sockets, close-on-exec and non-blocking.
 * @param type default `stream`
 * @throws SystemError
 */
export function createSocketPair(type: keyof typeof SOCKET_TYPES = 'stream'): [OwnedFd, OwnedFd] {
  const fds = new Int32Array(2)
  const flags = SOCKET_TYPES[type] | SOCK_CLOEXEC | SOCK_NONBLOCK
  if (libc().socketpair(AF_UNIX, flags, 0, fds) < 0) throw lastError('socketpair', type)
  const [one = -1, other = -1] = fds
  return [new OwnedFd(one), new OwnedFd(other)]
}

function socketType(socket: number): number {
  const type = new Int32Array(1)
  const length = new Uint32Array([type.byteLength])
  if (libc().getsockopt(socket, SOL_SOCKET, SO_TYPE, type, length) < 0)
    throw lastError('getsockopt', `fd ${socket}`)
  return type[0] ?? 0
}

function align(size: number): number {
  return (size + 7) & ~7
}

/** A struct msghdr of one piece of data, and what it points to, kept together for the length of a call. */
function messageHeader(data: Uint8Array, control: DataView) {
  const vector = new DataView(new ArrayBuffer(IOVEC_SIZE))
  const header = new DataView(new ArrayBuffer(MSGHDR_SIZE))
  vector.setBigUint64(0, data.byteLength === 0 ? 0n : addressOf(data), true)
  vector.setBigUint64(IOV_LEN_OFFSET, BigInt(data.byteLength), true)
  header.setBigUint64(MSG_IOV_OFFSET, addressOf(vector), true)
  header.setBigUint64(MSG_IOVLEN_OFFSET, 1n, true)
  header.setBigUint64(MSG_CONTROL_OFFSET, control.byteLength === 0 ? 0n : addressOf(control), true)
  header.setBigUint64(MSG_CONTROLLEN_OFFSET, BigInt(control.byteLength), true)
  return { header, vector, data, control }
}

/**
 * Sends bytes and descriptors as one message.
 * @param socket a Unix socket. One of type stream carries descriptors along with at least one byte only.
 * @param data the bytes, may be none
 * @param fds up to {@link SCM_MAX_FD} descriptors, which stay the caller's; may be none
 * @returns how many bytes were sent; with the first of them went the descriptors
 * @throws SystemError EAGAIN where there is no room, EPIPE, EBADF; EINVAL for too many descriptors, and for some
 *   without a byte over a stream
 */
export function sendWithFds(socket: number, data: Uint8Array, fds: readonly number[]): number {
  if (fds.length > 0 && data.byteLength === 0 && socketType(socket) === SOCKET_TYPES.stream) {
    throw new SystemError('sendmsg', EINVAL, 'a stream carries descriptors along with a byte only')
  }
  const dataSize = fds.length * FD_SIZE
  const control = new DataView(new ArrayBuffer(fds.length === 0 ? 0 : CMSG_DATA_OFFSET + align(dataSize)))
  if (fds.length > 0) {
    control.setBigUint64(0, BigInt(CMSG_DATA_OFFSET + dataSize), true)
    control.setInt32(CMSG_LEVEL_OFFSET, SOL_SOCKET, true)
    control.setInt32(CMSG_TYPE_OFFSET, SCM_RIGHTS, true)
    for (const [index, fd] of fds.entries()) control.setInt32(CMSG_DATA_OFFSET + index * FD_SIZE, fd, true)
  }
  const message = messageHeader(data, control)
  const sent: number = libc().sendmsg(socket, message.header, MSG_DONTWAIT | MSG_NOSIGNAL)
  if (sent < 0)
    throw lastError('sendmsg', `fd ${socket}, ${data.byteLength} bytes, ${fds.length} descriptors`)
  return sent
}

/** What one message brought. */
export interface ReceivedMessage {
  /** How many bytes came; 0 at the end of a stream. */
  readonly length: number
  /** The descriptors that came, close-on-exec and the caller's to close. */
  readonly fds: readonly OwnedFd[]
}

/** The descriptors of all SCM_RIGHTS records, as far as the kernel filled them in. */
function receivedFds(control: DataView, length: number): number[] {
  const fds: number[] = []
  for (let offset = 0; offset + CMSG_DATA_OFFSET <= length; ) {
    const size = Number(control.getBigUint64(offset, true))
    if (size < CMSG_DATA_OFFSET) break
    const isRights =
      control.getInt32(offset + CMSG_LEVEL_OFFSET, true) === SOL_SOCKET &&
      control.getInt32(offset + CMSG_TYPE_OFFSET, true) === SCM_RIGHTS
    const end = Math.min(offset + size, length)
    for (let at = offset + CMSG_DATA_OFFSET; isRights && at + FD_SIZE <= end; at += FD_SIZE) {
      fds.push(control.getInt32(at, true))
    }
    offset += align(size)
  }
  return fds
}

/**
 * Receives one message with its descriptors.
 * @param socket a Unix socket
 * @param buffer where the bytes go
 * @param maxFds how many descriptors are welcome, 0 to {@link SCM_MAX_FD}
 * @returns undefined where nothing has come yet
 * @throws SystemError EMSGSIZE where more descriptors came: all are closed; whatever recvmsg(2) says
 */
export function receiveWithFds(
  socket: number,
  buffer: Uint8Array,
  maxFds: number,
): ReceivedMessage | undefined {
  if (!(Number.isInteger(maxFds) && maxFds >= 0 && maxFds <= SCM_MAX_FD)) {
    throw new SystemError('recvmsg', EINVAL, `${maxFds} descriptors, expected 0 to ${SCM_MAX_FD}`)
  }
  // Rounded up to whole words, an odd number leaves room for one descriptor more than is welcome: checked below.
  const control = new DataView(new ArrayBuffer(CMSG_DATA_OFFSET + align(maxFds * FD_SIZE)))
  const message = messageHeader(buffer, control)
  const flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC
  const length: number = libc().recvmsg(socket, message.header, flags)
  if (length < 0) {
    if (lastErrno() === EAGAIN) return undefined
    throw lastError('recvmsg', `fd ${socket}`)
  }

  const fds = receivedFds(control, Number(message.header.getBigUint64(MSG_CONTROLLEN_OFFSET, true)))
  const truncated = (message.header.getInt32(MSG_FLAGS_OFFSET, true) & MSG_CTRUNC) !== 0
  if (truncated || fds.length > maxFds) {
    for (const fd of fds) closeFd(fd)
    throw new SystemError('recvmsg', EMSGSIZE, `more than ${maxFds} descriptors came over fd ${socket}`)
  }
  return { length, fds: fds.map((fd) => new OwnedFd(fd)) }
}
