/** The options of virtio-fs, and the configuration space that comes of them (virtio 1.2, 5.11.4). */
import { DevicesError } from '../../error.ts'
import type { FileSystem } from './file-system.ts'
import { VIRTIO_FS_CONFIG_NUM_QUEUES_OFFSET, VIRTIO_FS_CONFIG_SIZE, VIRTIO_FS_TAG_BYTES } from './spec.ts'

/** Options of {@link Fs}. */
export interface FsOptions {
  /** What the guest mounts it by: 1 to 36 bytes of UTF-8, without NUL. Linux takes each tag once. */
  readonly tag: string
  /** What is shared: a `SharedDirectory` of `@vmm/shared-dir`, a `UserTree`. The device does not close it. */
  readonly fileSystem: FileSystem
  /** Queues for requests, 1 to 64, beside the one for forgetting. Linux before 6.11 uses one. Default 1. */
  readonly queues?: number | undefined
  /** Entries of each queue: a power of two from 8 to 32768. Linux asks for 1 MiB at once where there are 512. Default 512. */
  readonly queueSize?: number | undefined
  /** The most files that a guest may know at a time; for one more it gets ENFILE. Some 400 bytes each. Default 131072. */
  readonly maxNodes?: number | undefined
  /** The most files and directories that a guest may have open. Default 4096. */
  readonly maxHandles?: number | undefined
}

/** Options with their defaults, checked. */
export interface FsSettings {
  readonly queues: number
  readonly queueSize: number
  readonly maxNodes: number
  readonly maxHandles: number
  readonly config: Uint8Array
}

/** @throws DevicesError ERR_DEVICE_OPTION */
export function fsSettings(options: FsOptions): FsSettings {
  if (typeof options?.fileSystem?.lookup !== 'function') {
    refuse('there is no file system in the options: new Fs({ tag, fileSystem })')
  }
  const { tag, queues = 1, queueSize = 512, maxNodes = 131072, maxHandles = 4096 } = options
  const bytes = new TextEncoder().encode(tag)
  if (bytes.length === 0 || bytes.length > VIRTIO_FS_TAG_BYTES || tag.includes('\0')) {
    refuse(`a tag is 1 to ${VIRTIO_FS_TAG_BYTES} bytes, got ${bytes.length}: ${JSON.stringify(tag)}`)
  }
  if (!isWhole(queues, 1, 64)) refuse(`1 to 64 queues for requests, got ${queues}`)
  if (!(isWhole(queueSize, 8, 32768) && Number.isInteger(Math.log2(queueSize)))) {
    refuse(`a queue has a power of two of entries, 8 to 32768, got ${queueSize}`)
  }
  if (!isWhole(maxNodes, 1, 2 ** 24)) refuse(`maxNodes is 1 to 2^24, got ${maxNodes}`)
  if (!isWhole(maxHandles, 1, 2 ** 20)) refuse(`maxHandles is 1 to 2^20, got ${maxHandles}`)
  if (!(options.fileSystem.cacheSeconds >= 0)) {
    refuse(`cacheSeconds is 0 or more, got ${options.fileSystem.cacheSeconds}`)
  }
  const config = new Uint8Array(VIRTIO_FS_CONFIG_SIZE)
  config.set(bytes)
  new DataView(config.buffer).setUint32(VIRTIO_FS_CONFIG_NUM_QUEUES_OFFSET, queues, true)
  return { queues, queueSize, maxNodes, maxHandles, config }
}

function isWhole(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most
}

function refuse(what: string): never {
  throw new DevicesError('ERR_DEVICE_OPTION', `virtio-fs: ${what}`)
}
