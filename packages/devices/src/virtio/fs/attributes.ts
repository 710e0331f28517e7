/** What a file is besides its contents: `struct fuse_attr`, and the changes that SETATTR asks for. */
import type { Reader, Writer } from '@vmm/virtio-queue'
import * as spec from './spec.ts'

/** Attributes of a file, to be filled in: used again and again, so set all of them, or call {@link Attributes.clear}. */
export class Attributes {
  /** Inode number, below 2^53, for the guest's programs alone; 0 for one that the device makes up. */
  inode = 0
  /** In bytes, below 2^53. */
  size = 0
  /** Space taken, in units of 512 bytes. */
  blocks = 0
  /** Last access, in seconds since 1970, and nanoseconds to be added. */
  accessed = 0
  /** Nanoseconds of {@link accessed}, below 10^9. */
  accessedNs = 0
  /** Last change of the contents, in seconds since 1970. */
  modified = 0
  /** Nanoseconds of {@link modified}, below 10^9. */
  modifiedNs = 0
  /** Last change of contents or attributes, in seconds since 1970. */
  changed = 0
  /** Nanoseconds of {@link changed}, below 10^9. */
  changedNs = 0
  /** Type (`S_IFMT`) and permissions. */
  mode = 0
  /** Names of the file. */
  links = 1
  /** Owner, as the guest numbers users. */
  uid = 0
  /** Owning group, as the guest numbers groups. */
  gid = 0
  /** What programs should read at a time, in bytes. */
  blockSize = 4096

  /** Everything as it is at first. */
  clear(): void {
    this.inode = 0
    this.size = 0
    this.blocks = 0
    this.accessed = 0
    this.accessedNs = 0
    this.modified = 0
    this.modifiedNs = 0
    this.changed = 0
    this.changedNs = 0
    this.mode = 0
    this.links = 1
    this.uid = 0
    this.gid = 0
    this.blockSize = 4096
  }
}

/** What a SETATTR changes. A field counts where its `has…` says so. */
export class AttributeChanges {
  /** Whether {@link mode} counts. */
  hasMode = false
  /** Whether {@link uid} counts. */
  hasUid = false
  /** Whether {@link gid} counts. */
  hasGid = false
  /** Whether {@link size} counts. */
  hasSize = false
  /** Whether {@link accessed} or {@link accessedNow} counts. */
  hasAccessed = false
  /** Whether {@link modified} or {@link modifiedNow} counts. */
  hasModified = false
  /** The time of the last access is to be the host's time now. */
  accessedNow = false
  /** The time of the last change is to be the host's time now. */
  modifiedNow = false
  /** Permissions, without the type. */
  mode = 0
  /** Owner, as the guest numbers users. */
  uid = 0
  /** Owning group, as the guest numbers groups. */
  gid = 0
  /** In bytes, below 2^53. */
  size = 0
  /** Last access, in seconds since 1970. */
  accessed = 0
  /** Nanoseconds of {@link accessed}, below 10^9. */
  accessedNs = 0
  /** Last change of the contents, in seconds since 1970. */
  modified = 0
  /** Nanoseconds of {@link modified}, below 10^9. */
  modifiedNs = 0

  /**
   * Takes `struct fuse_setattr_in`, but for its handle, which is given back.
   * @returns the handle; 0 where there is none; -1 where a value is none that a file can have
   */
  read(reader: Reader): number {
    const valid = reader.readUint32()
    reader.skip(4)
    const handle = reader.readUint64()
    this.size = reader.readUint64()
    reader.skip(8)
    this.accessed = readInt64(reader)
    this.modified = readInt64(reader)
    reader.skip(8)
    this.accessedNs = reader.readUint32()
    this.modifiedNs = reader.readUint32()
    reader.skip(4)
    this.mode = reader.readUint32() & ~spec.S_IFMT
    reader.skip(4)
    this.uid = reader.readUint32()
    this.gid = reader.readUint32()
    reader.skip(4)
    this.hasMode = (valid & spec.FATTR_MODE) !== 0
    this.hasUid = (valid & spec.FATTR_UID) !== 0
    this.hasGid = (valid & spec.FATTR_GID) !== 0
    this.hasSize = (valid & spec.FATTR_SIZE) !== 0
    this.accessedNow = (valid & spec.FATTR_ATIME_NOW) !== 0
    this.modifiedNow = (valid & spec.FATTR_MTIME_NOW) !== 0
    this.hasAccessed = this.accessedNow || (valid & spec.FATTR_ATIME) !== 0
    this.hasModified = this.modifiedNow || (valid & spec.FATTR_MTIME) !== 0
    if (this.hasSize && !Number.isSafeInteger(this.size)) return -1
    if (this.hasAccessed && !isTime(this.accessed, this.accessedNs)) return -1
    if (this.hasModified && !isTime(this.modified, this.modifiedNs)) return -1
    return (valid & spec.FATTR_FH) === 0 ? 0 : handle
  }
}

function isTime(seconds: number, nanoseconds: number): boolean {
  return Number.isSafeInteger(seconds) && nanoseconds < 1e9
}

function readInt64(reader: Reader): number {
  const low = reader.readUint32()
  return (reader.readUint32() | 0) * 2 ** 32 + low
}

/** Two's complement: seconds before 1970 are negative. */
function writeInt64(writer: Writer, value: number): void {
  writer.writeUint32(value >>> 0)
  writer.writeUint32(Math.floor(value / 2 ** 32) >>> 0)
}

/** Inode numbers that are made up begin here: above those of most file systems. */
export const INODE_BASE: number = 2 ** 52

/** Writes `struct fuse_attr`. */
export function writeAttributes(writer: Writer, attributes: Attributes, nodeId: number): void {
  writer.writeUint64(attributes.inode === 0 ? INODE_BASE + nodeId : attributes.inode)
  writer.writeUint64(attributes.size)
  writer.writeUint64(attributes.blocks)
  writeInt64(writer, attributes.accessed)
  writeInt64(writer, attributes.modified)
  writeInt64(writer, attributes.changed)
  writer.writeUint32(attributes.accessedNs)
  writer.writeUint32(attributes.modifiedNs)
  writer.writeUint32(attributes.changedNs)
  writer.writeUint32(attributes.mode)
  writer.writeUint32(attributes.links)
  writer.writeUint32(attributes.uid)
  writer.writeUint32(attributes.gid)
  // No devices: rdev is 0.
  writer.writeUint32(0)
  writer.writeUint32(attributes.blockSize)
  writer.writeUint32(0)
}

/** How long a guest may take what it was told for right, as FUSE has it: seconds and nanoseconds. */
export interface CacheTime {
  readonly seconds: number
  readonly nanoseconds: number
}

/** @param time in seconds, 0 or more; what is above 2^31 is as good as for ever */
export function cacheTime(time: number): CacheTime {
  const seconds = Math.min(Math.floor(time), 2 ** 31)
  return { seconds, nanoseconds: time === seconds || time > 2 ** 31 ? 0 : Math.floor((time - seconds) * 1e9) }
}

/** Writes `struct fuse_entry_out`. @param nodeId 0 for a name that is not there */
export function writeEntry(writer: Writer, nodeId: number, time: CacheTime, attributes: Attributes): void {
  writer.writeUint64(nodeId)
  // Node IDs are not used again: all are of the first generation.
  writer.writeUint64(0)
  writer.writeUint64(time.seconds)
  writer.writeUint64(time.seconds)
  writer.writeUint32(time.nanoseconds)
  writer.writeUint32(time.nanoseconds)
  writeAttributes(writer, attributes, nodeId)
}
