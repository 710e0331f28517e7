/**
 * `@vmm/devices/virtio`: virtio devices and the transport that they sit behind (virtio 1.2). Pure TypeScript over the
 * queues of `@vmm/virtio-queue`.
 * @packageDocumentation
 */

// The device model

export type { VirtioTransportOptions } from './core.ts'
export type { SharedMemoryRegion, VirtioDevice, VirtioFault, VirtioTransport } from './device.ts'
export type { VirtioCounters, VirtioEvents } from './events.ts'
export type { QueueFeatureOptions } from './features.ts'
export { type Polling, type PollOptions, QueuePoller, type QueuePollerOptions } from './poller.ts'
export { BUSY, type ChainHandler, IN_FLIGHT, LATER, QueueRunner } from './queue-runner.ts'
export type { RateLimit, RateLimiterState, TokenBucketState, TokenRate } from './rate-limit.ts'
export { RateLane, RateLimiter, type RateLimiterOptions } from './rate-limiter.ts'
export {
  featureBit,
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_BALLOON,
  VIRTIO_ID_BLOCK,
  VIRTIO_ID_CONSOLE,
  VIRTIO_ID_FS,
  VIRTIO_ID_NET,
  VIRTIO_ID_RNG,
  VIRTIO_ID_VSOCK,
} from './spec.ts'
export type { FeatureWords, VirtioCoreState } from './state.ts'

// virtio-mmio

export { VIRTIO_MMIO_SIZE } from './mmio/registers.ts'
export {
  type MmioSlot,
  MmioSlots,
  type MmioSlotsOptions,
  VIRTIO_MMIO_BASE,
  VIRTIO_MMIO_GSIS,
} from './mmio/slots.ts'
export {
  type MmioDoorbell,
  MmioTransport,
  type MmioTransportOptions,
  type MmioTransportState,
} from './mmio/transport.ts'

// Entropy

export {
  CRYPTO_RANDOM,
  type RandomSource,
  RNG_BYTES_MAX,
  Rng,
  type RngOptions,
  type RngState,
} from './rng/rng.ts'

// Disks

export { Blk } from './blk/blk.ts'
export { BufferDisk, type BufferDiskOptions } from './blk/buffer-disk.ts'
export type { BlkOptions } from './blk/config.ts'
export {
  DISK_DISCARD,
  DISK_FAILED,
  DISK_FLUSH,
  DISK_OK,
  DISK_PENDING,
  DISK_READ,
  DISK_UNSUPPORTED,
  DISK_WRITE,
  DISK_WRITE_ZEROES,
  type Disk,
  type DiskOperation,
  type DiskOutcome,
  type DiskSink,
} from './blk/disk.ts'
export { BlockRequest } from './blk/request.ts'
export { SECTOR_SIZE } from './blk/spec.ts'
export type { BlkState } from './blk/state.ts'
export { USER_DISK_CHUNK_BYTES, USER_DISK_PARALLEL, UserDisk, type UserDiskSource } from './blk/user-disk.ts'

// Consoles

export { Console } from './console/console.ts'
export {
  CONSOLE_PORTS_MAX,
  type ConsoleEvents,
  type ConsoleOptions,
  type ConsoleOverflow,
  type ConsolePortOptions,
} from './console/options.ts'
export type { ConsolePort } from './console/port.ts'
export type { ConsolePortState, ConsoleState } from './console/state.ts'

// Balloons

export { Balloon } from './balloon/balloon.ts'
export type { BalloonEvents, BalloonMemory, BalloonOptions } from './balloon/options.ts'
export { VIRTIO_BALLOON_PAGE_SIZE } from './balloon/spec.ts'
export type { BalloonState } from './balloon/state.ts'
export type { BalloonStatistics } from './balloon/statistics.ts'

// Sockets

export { type VsockListener, VsockRequest } from './vsock/listener.ts'
export type { VsockConnectOptions, VsockOptions } from './vsock/options.ts'
export { VMADDR_CID_HOST } from './vsock/spec.ts'
export { VsockStream, type VsockStreamOptions } from './vsock/stream.ts'
export { Vsock, type VsockState } from './vsock/vsock.ts'

// Networks

export type { NetOptions } from './net/config.ts'
export type { NetCounters } from './net/counters.ts'
export { NetFrame } from './net/frame.ts'
export { FRAME_QUEUE_BYTES_MIN, FrameQueue } from './net/frame-queue.ts'
export { checkMac, formatMac, isDeviceMac, parseMac, randomMac } from './net/mac.ts'
export { Net } from './net/net.ts'
export {
  NET_BUSY,
  NET_DONE,
  NET_DROPPED,
  NET_OFFLOAD_CSUM,
  NET_OFFLOAD_ECN,
  NET_OFFLOAD_TSO4,
  NET_OFFLOAD_TSO6,
  NET_OFFLOADS_ALL,
  type NetOutcome,
  type Network,
  type NetworkSink,
} from './net/network.ts'
export type { NetReceiver } from './net/receiver.ts'
export {
  ETHERNET_HEADER_SIZE,
  FRAME_BYTES_MAX,
  MAC_SIZE,
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_SIZE,
} from './net/spec.ts'
export type { NetState } from './net/state.ts'
export { UserNetwork, type UserNetworkOptions } from './net/user-network.ts'

// Shared directories

export { AttributeChanges, Attributes } from './fs/attributes.ts'
export type { FsOptions } from './fs/config.ts'
export type { DirectoryList } from './fs/directory-list.ts'
export { FS_ERRNO, type FsErrno } from './fs/errno.ts'
export type { FileSystem, FsOutcome, FsSpace, NodeLocation } from './fs/file-system.ts'
export { Fs } from './fs/fs.ts'
export {
  type MemoryContents,
  type MemoryDirectory,
  type MemoryEntry,
  MemoryLink,
  type MemoryNode,
  memoryTree,
} from './fs/memory-tree.ts'
export type { FileName } from './fs/name.ts'
export type { FsRequest } from './fs/request.ts'
export { FS_DATA_BYTES_MAX, VIRTIO_FS_TAG_BYTES } from './fs/spec.ts'
export type { FsMountState, FsState, SavedHandle, SavedNode } from './fs/state.ts'
export type { Eventually, UserChanges, UserStat, UserTreeSource } from './fs/user-source.ts'
export {
  USER_TREE_CHUNK_BYTES,
  USER_TREE_PARALLEL,
  UserTree,
  type UserTreeOptions,
} from './fs/user-tree.ts'
