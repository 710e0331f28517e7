/** The rows of the table in the root README, by name and in its order: a few of each kind, the bad ones with the good. */
export const README_ROWS = [
  'process start to first KVM_RUN',
  'RSS beside guest memory',
  'exit, runSync()',
  'exit, await run()',
  'eventfd wake-up, 1 at a time',
  'virtqueue disk request, split, 3 descriptors',
  'virtio-blk cached, random read, 4 KiB, depth 1',
  'virtio-blk cached, random read, 4 KiB, depth 32',
  'virtio-blk cached, random write, 4 KiB, depth 32',
  'virtio-blk cached, sequential read, 1 MiB, depth 4',
  'virtio-blk O_DIRECT, random read, 4 KiB, depth 32',
  'virtio-net, ping, 98 bytes, one at a time',
  'virtio-net, send, frames of 1514 bytes',
  'virtio-net, receive, frames of 1514 bytes',
  'virtio-blk, exits to user space in 1,000,000 requests',
]
