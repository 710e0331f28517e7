/** The table of benches in the root README. */

/** Its rows, by name and in its order: a few of each kind, the bad ones with the good. */
export const README_ROWS = [
  'process start to first KVM_RUN',
  'RSS beside guest memory',
  "restore to the guest's first instruction, 64 MiB",
  "restore to the guest's first instruction, 4096 MiB",
  'Linux goes on, 100 clones in a process',
  'memory of a clone over the pages its guest has written',
  'exit, runSync()',
  'exit, await run()',
  'eventfd wake-up, 1 at a time',
  'virtqueue disk request, split, 3 descriptors',
  'virtio-blk cached, random read, 4 KiB, depth 1',
  'virtio-blk cached, random read, 4 KiB, depth 32',
  'virtio-blk cached, random write, 4 KiB, depth 32',
  'virtio-blk cached, sequential read, 1 MiB, depth 4',
  'virtio-blk O_DIRECT, random read, 4 KiB, depth 1',
  'virtio-blk O_DIRECT, random read, 4 KiB, depth 32',
  'virtio-blk, exits to user space in 1,000,000 requests',
  'virtio-net, ping, 98 bytes, one at a time',
  'virtio-net, send, frames of 1514 bytes',
  'virtio-net, receive, frames of 1514 bytes',
  'virtio-fs, random read, 4 KiB, depth 16',
  'virtio-vsock, stream to the host',
]

const BEGIN = '<!-- bench: begin -->'
const END = '<!-- bench: end -->'

/**
 * The README with another text between its two marks.
 * @param {string} readme
 * @param {string} text
 * @returns {string | undefined} undefined where the marks are not there
 */
export function replaceTable(readme, text) {
  const begin = readme.indexOf(BEGIN)
  const end = readme.indexOf(END)
  if (begin < 0 || end < begin) return undefined
  return `${readme.slice(0, begin + BEGIN.length)}\n\n${text}\n\n${readme.slice(end)}`
}
