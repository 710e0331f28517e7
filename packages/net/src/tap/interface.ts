/** What the kernel says of a network interface: netdevice(7), in the network namespace of this thread. */
import { addressOf, createSocketPair, errnoName, ioctlRaw } from '@vmm/sys-util'

/** `struct ifreq`: the name, then a union of 24 bytes. */
export const IFREQ_SIZE = 40
/** Bytes of a name, the NUL at its end among them. */
export const IFNAMSIZ = 16

/** <linux/sockios.h>. */
const SIOCGIFFLAGS = 0x8913
const SIOCGIFMTU = 0x8921
const SIOCETHTOOL = 0x8946
/** <linux/ethtool.h>: `struct ethtool_drvinfo`, of which the name of the driver and the bus are of use. */
const ETHTOOL_GDRVINFO = 0x0000_0003
const DRVINFO_SIZE = 196
const DRVINFO_DRIVER_OFFSET = 4
const DRVINFO_BUS_OFFSET = 100
const DRVINFO_STRING_SIZE = 32
/** <linux/if.h>. */
const IFF_UP = 0x1

/** An interface, when it was looked at. */
export interface InterfaceInfo {
  readonly isUp: boolean
  /** In bytes. */
  readonly mtu: number
  /** Whether frames of it go to a file of /dev/net/tun, with their Ethernet headers. */
  readonly isTap: boolean
}

/** A request about an interface: its name, and zeros. */
export function interfaceRequest(name: string): DataView {
  const request = new Uint8Array(IFREQ_SIZE)
  new TextEncoder().encodeInto(name, request.subarray(0, IFNAMSIZ - 1))
  return new DataView(request.buffer)
}

/**
 * Looks at an interface.
 * @returns undefined where there is none of that name
 * @throws SystemError
 */
export function interfaceInfo(name: string): InterfaceInfo | undefined {
  // Any socket will do.
  const [socket, other] = createSocketPair()
  try {
    const flags = interfaceRequest(name)
    const result = ioctlRaw(socket.fd, SIOCGIFFLAGS, flags)
    if (result < 0 && errnoName(-result) === 'ENODEV') return undefined
    const mtu = interfaceRequest(name)
    ioctlRaw(socket.fd, SIOCGIFMTU, mtu)
    return {
      isUp: (flags.getUint16(IFNAMSIZ, true) & IFF_UP) !== 0,
      mtu: mtu.getInt32(IFNAMSIZ, true),
      isTap: isTap(socket.fd, name),
    }
  } finally {
    socket.close()
    other.close()
  }
}

function isTap(socket: number, name: string): boolean {
  const info = new DataView(new ArrayBuffer(DRVINFO_SIZE))
  info.setUint32(0, ETHTOOL_GDRVINFO, true)
  const request = interfaceRequest(name)
  request.setBigUint64(IFNAMSIZ, addressOf(info), true)
  if (ioctlRaw(socket, SIOCETHTOOL, request) < 0) return false
  return text(info, DRVINFO_DRIVER_OFFSET) === 'tun' && text(info, DRVINFO_BUS_OFFSET) === 'tap'
}

function text(view: DataView, offset: number): string {
  const bytes = new Uint8Array(view.buffer, offset, DRVINFO_STRING_SIZE)
  const end = bytes.indexOf(0)
  return new TextDecoder().decode(bytes.subarray(0, end < 0 ? undefined : end))
}
