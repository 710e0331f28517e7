/**
 * The file system device: virtio 1.2 section 5.11, FUSE over queues. Requests are counted here, answered, and go to a
 * `FileSystem`; what that is, is the host's business. Not here: DAX (shared memory), the notification queue, extended attributes
 * and ACLs, locks between guest and host.
 */
import type { DescriptorChain, Virtqueue } from '@vmm/virtio-queue'
import { DevicesError } from '../../error.ts'
import { attachOnce } from '../attached.ts'
import type { VirtioDevice, VirtioTransport } from '../device.ts'
import { BUSY, IN_FLIGHT, LATER, QueueRunner } from '../queue-runner.ts'
import { VIRTIO_ID_FS } from '../spec.ts'
import type { FsOptions } from './config.ts'
import { fsSettings } from './config.ts'
import { ERRNO_MAX, FS_ERRNO } from './errno.ts'
import { Intake } from './intake.ts'
import { replyMiss } from './replies.ts'
import { FsRequest } from './request.ts'
import { restoreMount, saveMount } from './saved-mount.ts'
import { Session } from './session.ts'
import * as spec from './spec.ts'
import type { FsState } from './state.ts'
import { checkFsState } from './state.ts'

/** The most requests to take in one turn of the event loop, */
const BATCH = 64
/** and the most bytes to move in it, but for the request that passes it: some milliseconds. */
const BATCH_BYTES = 2 ** 23

/**
 * virtio-fs.
 *
 * @example
 * ```ts
 * const fileSystem = new UserTree(memoryTree({ 'hello.txt': 'hello\n', src: { 'a.js': () => readFile('a.js') } }))
 * const transport = new MmioTransport({ device: new Fs({ tag: 'docs', fileSystem }), memory, interrupt })
 * // In the guest: mount -t virtiofs docs /mnt
 * ```
 */
export class Fs implements VirtioDevice {
  readonly type: number = VIRTIO_ID_FS
  readonly featuresLow = 0
  readonly featuresHigh = 0
  readonly queueSizes: readonly number[]
  readonly config: Uint8Array
  readonly #session: Session
  readonly #idle: FsRequest[] = []
  /** Requests at the file system, those of before a reset included, and how many there may be: as many as fit the queues. */
  #pending = 0
  readonly #pendingMax: number
  /** A queue waits for room among them. */
  #blocked = false
  /** {@link #later} is on its way. */
  #deferred = false
  readonly #later: () => void = () => {
    this.#deferred = false
    this.#resume()
  }
  /** Bytes that were moved in this batch. */
  #batchBytes = 0
  #waiting: (() => void)[] = []
  /** Until the files of a saved mount are found again; requests wait for that. */
  #restoring: Promise<void> | undefined
  #lost = 0
  #transport: VirtioTransport | undefined
  #intake: Intake | undefined
  #runners: QueueRunner[] = []

  /** @throws DevicesError ERR_DEVICE_OPTION */
  constructor(options: FsOptions) {
    const { config, queues, queueSize, maxNodes, maxHandles } = fsSettings(options)
    this.config = config
    this.queueSizes = Array.from({ length: 1 + queues }, () => queueSize)
    this.#pendingMax = queues * queueSize
    this.#session = new Session(options.fileSystem, { nodes: maxNodes, handles: maxHandles }, (error) =>
      this.#transport?.hostFailure(error),
    )
  }

  /** Requests that the file system has not answered. */
  get pending(): number {
    return this.#pending
  }

  /** Files that the guest knows, without the root. */
  get nodes(): number {
    return this.#session.nodes.size
  }

  /** Files and directories that the guest has open. */
  get handles(): number {
    return this.#session.handles.size
  }

  /** Of a mount that was restored: files that were not there any more or were others, and handles that could not be opened. */
  get lost(): number {
    return this.#lost
  }

  attach(transport: VirtioTransport): void {
    this.#transport = attachOnce(this.#transport, transport, 'virtio-fs')
    this.#intake = new Intake(this.#session, transport)
    const handler = {
      serve: (chain: DescriptorChain, queue: Virtqueue, runner: QueueRunner, isMapped: boolean) =>
        this.#serve(chain, queue, runner, isMapped),
      beginTurn: () => {
        this.#batchBytes = 0
      },
    }
    this.#runners = this.queueSizes.map((_, i) => new QueueRunner(transport, i, handler, BATCH))
  }

  notify(queue: number): void {
    this.#runners[queue]?.run()
  }

  resetQueue(): void {
    // Other queues may have room now.
    if (!this.#blocked || this.#deferred) return
    this.#deferred = true
    this.#transport?.defer(this.#later)
  }

  reset(): void {
    this.#session.end()
  }

  /** Settles when the file system has answered all requests: with the vCPUs stopped, before it is closed. */
  idle(): Promise<void> {
    if (this.#pending === 0) return this.#restoring ?? Promise.resolve()
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  /**
   * What the guest knows of files, by names and what tells them from others, and what it has open. Not what is in them.
   * @throws DevicesError ERR_DEVICE_BUSY while there are requests, see {@link idle}; and for a mounted file system that has no `locate`
   */
  state(): FsState {
    const session = this.#session
    if (this.#pending > 0 || this.#restoring !== undefined) {
      throw new DevicesError('ERR_DEVICE_BUSY', 'virtio-fs: the file system has requests to answer')
    }
    if (!session.isMounted) return { version: 1 }
    if (session.fileSystem.locate === undefined) {
      const message = 'virtio-fs: the guest has mounted a file system that cannot be saved, unmount it before'
      throw new DevicesError('ERR_DEVICE_BUSY', message)
    }
    return { version: 1, mount: saveMount(session) }
  }

  /**
   * Looks for all that the guest knew, in a file system that may be another one by now. Requests wait for it. What is not found
   * is ESTALE to the guest from then on, or EBADF where only the handle is missing.
   * @throws DevicesError ERR_DEVICE_STATE
   */
  restore(state: unknown): void {
    const session = this.#session
    const mount = checkFsState(state, { nodes: session.nodes.capacity, handles: session.handles.capacity })
    if (mount === undefined) return
    session.begin()
    const turn = () => new Promise<void>((resolve) => (this.#transport as VirtioTransport).defer(resolve))
    this.#restoring = restoreMount(session, mount, turn).then((lost) => {
      this.#lost = lost
      this.#restoring = undefined
    })
  }

  #serve(chain: DescriptorChain, queue: Virtqueue, runner: QueueRunner, isMapped: boolean): number {
    const intake = this.#intake as Intake
    if (this.#batchBytes >= BATCH_BYTES) return LATER
    if (this.#pending >= this.#pendingMax) {
      this.#blocked = true
      return BUSY
    }
    const request = this.#idle.pop() ?? new FsRequest(this.#session)
    request.clear()
    request.chain = chain
    request.queue = queue
    request.runner = runner
    const outcome =
      this.#restoring === undefined
        ? intake.begin(request, isMapped)
        : this.#restoring.then(() => (request.isAnswerable ? intake.begin(request, isMapped) : 0))
    if (typeof outcome === 'number') {
      const length = this.#answer(request, outcome)
      this.#idle.push(request)
      return length
    }
    this.#pending += 1
    outcome.then(
      (late) => this.#complete(request, late),
      (error: unknown) => this.#complete(request, intake.errorOf(error)),
    )
    return IN_FLIGHT
  }

  /** Writes the answer. @returns bytes written, from the first writable one on */
  #answer(request: FsRequest, outcome: number): number {
    const { operation, header, target, chain } = request
    const session = this.#session
    let payload = outcome
    if (operation === undefined) {
      // Refused before it was known; or forgotten, which has no answer.
      header.attach(chain)
      if (outcome === 0 || chain.writableBytes < spec.FUSE_OUT_HEADER_SIZE) return 0
    } else if (request.generation !== session.generation) {
      payload = -FS_ERRNO.EIO
    } else if (outcome >= 0) {
      payload = operation.reply(session, request, outcome)
      this.#batchBytes += outcome
    } else if (outcome === -FS_ERRNO.ENOENT && operation.mayMiss === true && isRemembered(session)) {
      payload = replyMiss(session, request, 0)
    }
    session.discard(request)
    // A read that failed may have changed memory all the same, and its used length does not tell dirty tracking.
    if (payload < 0)
      chain.markWritten(0, Math.min(request.length, spec.FS_DATA_BYTES_MAX) + spec.FUSE_OUT_HEADER_SIZE)
    if (target.failed || payload < -ERRNO_MAX) payload = -FS_ERRNO.EIO
    const length = spec.FUSE_OUT_HEADER_SIZE + Math.max(payload, 0)
    header.writeUint32(length)
    header.writeUint32(Math.min(payload, 0) >>> 0)
    header.writeUint32(request.uniqueLow)
    header.writeUint32(request.uniqueHigh)
    return header.failed ? 0 : length
  }

  /** A promise has settled. */
  #complete(request: FsRequest, outcome: number): void {
    const { chain, queue, runner } = request
    this.#pending -= 1
    if (queue !== undefined && runner !== undefined) {
      if (!request.isAnswerable) this.#session.discard(request)
      const length = request.isAnswerable ? this.#answer(request, outcome) : 0
      runner.complete(chain, queue, length)
      runner.flush()
    }
    this.#idle.push(request)
    this.#resume()
    if (this.#pending === 0) for (const resolve of this.#waiting.splice(0)) resolve()
  }

  #resume(): void {
    if (!this.#blocked || this.#pending >= this.#pendingMax) return
    this.#blocked = false
    for (const runner of this.#runners) runner.run()
  }
}

/** Whether the guest may keep that a name is not there. */
function isRemembered({ time }: Session): boolean {
  return time.seconds > 0 || time.nanoseconds > 0
}
