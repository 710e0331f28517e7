// Writes cpio archives in the "newc" format, the one the kernel unpacks as an initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst). Uncompressed; the output depends on the
// entries alone: no times, no owners.

const S_IFDIR = 0o040000
const S_IFREG = 0o100000
const S_IFLNK = 0o120000

/** A directory. @param {string} path without a leading slash; parents come before their children */
export function directory(path, permissions = 0o755) {
  return { path, mode: S_IFDIR | permissions, data: Buffer.alloc(0) }
}

/** A regular file. @param {string} path @param {Buffer | string} content */
export function file(path, content, permissions = 0o644) {
  return { path, mode: S_IFREG | permissions, data: Buffer.from(content) }
}

/** A symbolic link. @param {string} path @param {string} target */
export function symlink(path, target) {
  return { path, mode: S_IFLNK | 0o777, data: Buffer.from(target) }
}

/**
 * The archive of the given entries, in their order.
 *
 * @param {ReturnType<typeof file>[]} entries
 * @returns {Buffer}
 */
export function cpioArchive(entries) {
  const parts = entries.flatMap((entry, index) => record(entry, index + 1))
  parts.push(...record({ path: 'TRAILER!!!', mode: 0, data: Buffer.alloc(0) }, 0))
  return Buffer.concat(parts)
}

function record({ path, mode, data }, inode) {
  const name = Buffer.from(`${path}\0`)
  const links = (mode & S_IFDIR) === S_IFDIR ? 2 : 1
  // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
  const fields = [inode, mode, 0, 0, links, 0, data.length, 0, 0, 0, 0, name.length, 0]
  const header = Buffer.from(`070701${fields.map((n) => n.toString(16).padStart(8, '0')).join('')}`)
  return [header, name, padding(header.length + name.length), data, padding(data.length)]
}

/** Names and contents end at multiples of 4. */
function padding(length) {
  return Buffer.alloc(-length & 3)
}
