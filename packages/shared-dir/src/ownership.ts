/**
 * Attributes as the guest sees them. Files belong to whoever runs this process, and to an owner of the guest's there; other people's
 * are nobody's. Nothing has set-user-ID or set-group-ID bits, neither to be seen nor to be set: what a guest writes is not to
 * run as somebody on the host.
 */
import type { Attributes } from '@vmm/devices/virtio'
import type { FileStatus } from '@vmm/sys-util'
import { PERMISSIONS, S_IFMT } from './linux.ts'
import type { GuestOwner } from './options.ts'

/** Whom Linux takes for nobody. */
const NOBODY = 65534
/** Inode numbers below 2^52: those above are for the device to make up. */
const INODE_HIGH_MAX = 0xf_ffff

export class Ownership {
  readonly #uid: number
  readonly #gid: number
  readonly #owner: GuestOwner
  readonly #deviceMajor: number
  readonly #deviceMinor: number

  /** @param root status of the directory that is shared */
  constructor(owner: GuestOwner, root: FileStatus) {
    // New files belong to the effective user and group.
    this.#uid = process.geteuid?.() ?? 0
    this.#gid = process.getegid?.() ?? 0
    this.#owner = owner
    this.#deviceMajor = root.deviceMajor
    this.#deviceMinor = root.deviceMinor
  }

  /** The guest's user for the owner of a file. */
  userOf({ uid }: FileStatus): number {
    return uid === this.#uid ? this.#owner.uid : NOBODY
  }

  groupOf({ gid }: FileStatus): number {
    return gid === this.#gid ? this.#owner.gid : NOBODY
  }

  describe(status: FileStatus, attributes: Attributes): void {
    const { inodeHigh, inodeLow, deviceMajor, deviceMinor, mode } = status
    // Two files of different devices may have the same number: then it is better made up.
    const isOwnDevice = deviceMajor === this.#deviceMajor && deviceMinor === this.#deviceMinor
    attributes.inode = isOwnDevice && inodeHigh <= INODE_HIGH_MAX ? inodeHigh * 2 ** 32 + inodeLow : 0
    attributes.size = status.size
    attributes.blocks = status.blocks
    attributes.accessed = status.accessed
    attributes.accessedNs = status.accessedNs
    attributes.modified = status.modified
    attributes.modifiedNs = status.modifiedNs
    attributes.changed = status.changed
    attributes.changedNs = status.changedNs
    attributes.mode = mode & (S_IFMT | PERMISSIONS)
    attributes.links = status.links
    attributes.uid = this.userOf(status)
    attributes.gid = this.groupOf(status)
    attributes.blockSize = status.blockSize
  }
}
