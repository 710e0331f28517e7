/** Opens a tap: one descriptor of /dev/net/tun for each queue, attached to an interface. */
import { constants } from 'node:fs'
import { _IOW, errnoName, ioctl, ioctlRaw, OwnedFd, openPath, SystemError } from '@vmm/sys-util'
import { NetError, reasonOf } from '../error.ts'
import { IFNAMSIZ, type InterfaceInfo, interfaceInfo, interfaceRequest } from './interface.ts'
import { Tap } from './tap.ts'

const O_CLOEXEC = 0o2000000
const QUEUES_MAX = 64
const DEFAULT_MTU = 1500

/** <linux/if_tun.h>. */
const TUNSETIFF = _IOW(0x54, 202, 4)
const TUNSETVNETHDRSZ = _IOW(0x54, 216, 4)
const IFF_TAP = 0x0002
const IFF_MULTI_QUEUE = 0x0100
const IFF_NO_PI = 0x1000
const IFF_VNET_HDR = 0x4000
/** `struct virtio_net_hdr_v1` in front of each frame. */
const VNET_HDR_SIZE = 12

/** How to open a tap. */
export interface TapOptions {
  /** Whether to create it where it is not there; it is gone with its last queue then. Default false. */
  readonly create?: boolean | undefined
  /** Queues, 1 to 64: more than one for a tap that was created for them (`multi_queue`). Default 1. */
  readonly queues?: number | undefined
  /** The file that taps are opened by; default `/dev/net/tun`. */
  readonly device?: string | undefined
}

/**
 * Opens a tap of this network namespace. It may be moved to another one after that.
 * @param name of the interface, 1 to 15 bytes
 * @throws NetError, see `NetErrorCode`
 *
 * @example
 * ```ts
 * const tap = openTap('vmtap0') // ip tuntap add dev vmtap0 mode tap user me; ip link set vmtap0 up
 * const device = new Net({ network: tap })
 * ```
 */
export function openTap(name: string, options: TapOptions = {}): Tap {
  const { create = false, queues = 1, device = '/dev/net/tun' } = options
  if (!(Number.isInteger(queues) && queues >= 1 && queues <= QUEUES_MAX)) {
    throw new NetError('ERR_NET_OPTION', `tap ${name}: 1 to ${QUEUES_MAX} queues, got ${queues}`)
  }
  checkName(name)
  const before = lookAt(name)
  if (before === undefined && !create) {
    const what = `tap ${name} does not exist: make it first, by ip tuntap add dev ${name} mode tap, or by the option create`
    throw new NetError('ERR_NET_TAP_MISSING', what)
  }
  if (before !== undefined && !before.isTap) {
    throw new NetError('ERR_NET_TAP_TYPE', `${name} is a network interface, but no tap`)
  }
  const files: OwnedFd[] = []
  try {
    for (let i = 0; i < queues; i += 1) files.push(openQueue({ name, queues, device, before }))
    const info = lookAt(name)
    return new Tap({ name, files, isUp: info?.isUp ?? false, mtu: info?.mtu ?? DEFAULT_MTU })
  } catch (cause) {
    for (const file of files) file.close()
    throw cause
  }
}

function lookAt(name: string): InterfaceInfo | undefined {
  try {
    return interfaceInfo(name)
  } catch (cause) {
    throw new NetError('ERR_NET_TAP_OPEN', `tap ${name} cannot be looked for: ${reasonOf(cause)}`, cause)
  }
}

function checkName(name: string): void {
  const size = new TextEncoder().encode(name).length
  if (size >= IFNAMSIZ) {
    throw new NetError(
      'ERR_NET_TAP_NAME',
      `tap name ${JSON.stringify(name)} has ${size} bytes, at most 15 fit`,
    )
  }
  // A % is the kernel's to fill in, and then nobody knows the name.
  if (size > 0 && !/[\s/:%\0]/.test(name) && name !== '.' && name !== '..') return
  throw new NetError('ERR_NET_TAP_NAME', `no network interface can have the name ${JSON.stringify(name)}`)
}

interface QueueRequest {
  readonly name: string
  readonly queues: number
  readonly device: string
  readonly before: InterfaceInfo | undefined
}

function openQueue(request: QueueRequest): OwnedFd {
  const { name, queues, before } = request
  const file = openDevice(request)
  try {
    let errno = attach(file, name, queues > 1)
    // One of several queues is enough for one.
    if (errno === 'EINVAL' && queues === 1) errno = attach(file, name, true)
    if (errno !== undefined) throw refusal(errno, name, queues, before !== undefined)
    ioctl(file.fd, TUNSETVNETHDRSZ, 'TUNSETVNETHDRSZ', Int32Array.of(VNET_HDR_SIZE))
    return file
  } catch (cause) {
    file.close()
    if (cause instanceof NetError) throw cause
    throw new NetError('ERR_NET_TAP_OPEN', `tap ${name} cannot be opened: ${reasonOf(cause)}`, cause)
  }
}

function openDevice({ name, device }: QueueRequest): OwnedFd {
  try {
    return new OwnedFd(openPath(device, constants.O_RDWR | constants.O_NONBLOCK | O_CLOEXEC))
  } catch (cause) {
    const reason = reasonOf(cause)
    const isRight = reason === 'EACCES' || reason === 'EPERM'
    const what = isRight ? `no right to ${device} (${reason})` : `${device} cannot be opened (${reason})`
    throw new NetError('ERR_NET_TUN', `tap ${name}: ${what}`, cause)
  }
}

/** @returns the name of the errno, undefined for success */
function attach(file: OwnedFd, name: string, isMultiQueue: boolean): string | undefined {
  const request = interfaceRequest(name)
  const flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (isMultiQueue ? IFF_MULTI_QUEUE : 0)
  request.setUint16(IFNAMSIZ, flags, true)
  const result = ioctlRaw(file.fd, TUNSETIFF, request)
  return result < 0 ? errnoName(-result) : undefined
}

function refusal(errno: string, name: string, queues: number, isThere: boolean): NetError {
  switch (errno) {
    case 'EPERM':
      return isThere
        ? new NetError(
            'ERR_NET_TAP_PERMISSION',
            `tap ${name} is not yours: it belongs to another user or group`,
          )
        : new NetError('ERR_NET_TAP_PERMISSION', `tap ${name} cannot be created: that takes CAP_NET_ADMIN`)
    case 'EBUSY':
      return new NetError('ERR_NET_TAP_BUSY', `tap ${name} is in use: another VM or program has it open`)
    case 'E2BIG':
      return new NetError('ERR_NET_TAP_QUEUES', `tap ${name} has no room for ${queues} more queues`)
    case 'EINVAL':
      return new NetError(
        'ERR_NET_TAP_QUEUES',
        `tap ${name} has one queue, not ${queues}: create it with multi_queue`,
      )
    default:
      return new NetError(
        'ERR_NET_TAP_OPEN',
        `tap ${name} cannot be opened: ${errno}`,
        new SystemError('TUNSETIFF', 0, errno),
      )
  }
}
