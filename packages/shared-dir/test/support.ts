/** A guest's FUSE driver over a real directory, in mapped memory. */
import { readdirSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { FuseClient, FuseError } from '@vmm/devices/testing'
import { Fs, type FsOptions } from '@vmm/devices/virtio'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import { expect } from 'vitest'
import { own, temporaryDirectory } from '../../../tests/support/own.ts'
import { SharedDirectory, type SharedDirectoryOptions } from '../src/index.ts'

export { own, temporaryDirectory } from '../../../tests/support/own.ts'

export const MEMORY_BYTES = 0x80_0000
export const ROOT = 1

export { FS_ERRNO as ERRNO } from '@vmm/devices/virtio'

/** A share and the guest that has mounted it. */
export interface Mounted {
  /** Of the directory, on the host. */
  readonly path: string
  readonly share: SharedDirectory
  readonly device: Fs
  readonly client: FuseClient
}

/** Shares a directory, by default a new one, and mounts it. */
export async function mount(
  options: SharedDirectoryOptions & {
    readonly path?: string
    readonly limits?: Pick<FsOptions, 'maxNodes' | 'maxHandles'>
  } = {},
): Promise<Mounted> {
  const { path = temporaryDirectory(), limits, ...rest } = options
  const share = own(new SharedDirectory(path, rest))
  const device = new Fs({ tag: 'share', fileSystem: share, ...limits })
  const memory = own(MappedMemory.anonymous([{ start: 0, size: MEMORY_BYTES }]))
  const client = new FuseClient(device, memory.memory)
  own({ close: () => client.transport.reset() })
  await client.init()
  return { path, share, device, client }
}

/** How many descriptors of this process are open. */
export function countFds(): number {
  return readdirSync('/proc/self/fd').length
}

/** What a request is refused with. */
export async function refusal(request: Promise<unknown>): Promise<number> {
  try {
    await request
  } catch (error) {
    expect(error).toBeInstanceOf(FuseError)
    return -(error as FuseError).errno
  }
  throw new Error('it was not refused')
}

const SWAPPER = `
  const { renameSync } = require('node:fs')
  const { workerData, parentPort } = require('node:worker_threads')
  const stop = new Int32Array(workerData.stop)
  const { path } = workerData
  parentPort.postMessage('begun')
  let swaps = 0
  while (Atomics.load(stop, 0) === 0) {
    for (const [from, to] of [['victim', 'kept'], ['link', 'victim'], ['victim', 'link'], ['kept', 'victim']]) {
      try { renameSync(path + '/' + from, path + '/' + to) } catch {}
    }
    Atomics.store(stop, 1, ++swaps)
  }
`

/** A thread at work. */
export interface Swapper {
  /** How often it has done it. */
  readonly swaps: number
  stop(): Promise<void>
}

/** Swaps `victim`, a directory in `path`, with `link`, as fast as it can. */
export async function startSwapping(path: string): Promise<Swapper> {
  const shared = new Int32Array(new SharedArrayBuffer(8))
  const worker = new Worker(SWAPPER, { eval: true, workerData: { stop: shared.buffer, path } })
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  await new Promise((resolve) => worker.once('message', resolve))
  return {
    get swaps() {
      return Atomics.load(shared, 1)
    },
    async stop() {
      Atomics.store(shared, 0, 1)
      await ended
    },
  }
}
