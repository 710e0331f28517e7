/**
 * One request to a file system, taken apart: reused, never allocated anew once there are as many as the driver has in
 * flight. Its fields are copies: the guest cannot change them any more. The data of reads and writes stays the guest's.
 */
import { DescriptorChain, Reader, type Virtqueue, Writer } from '@vmm/virtio-queue'
import type { QueueRunner } from '../queue-runner.ts'
import { AttributeChanges, Attributes } from './attributes.ts'
import { DirectoryList } from './directory-list.ts'
import { FsSpace } from './file-system.ts'
import { FileName } from './name.ts'
import type { Operation } from './operation.ts'
import type { Session } from './session.ts'
import { LINK_MAX, NAME_MAX } from './spec.ts'

const NO_CHAIN = new DescriptorChain()

/** What is asked for and by whom; which fields count is said at each method of `FileSystem`. */
export class FsRequest<N extends object = object, H extends object = object> {
  /** What the request is about. */
  node: N
  /** The name in the directory {@link node}: checked, one component. */
  readonly name: FileName = new FileName(NAME_MAX)
  /** The directory that a file is renamed or linked to. */
  otherNode: N
  /** The new name there: checked, one component. */
  readonly otherName: FileName = new FileName(NAME_MAX)
  /** What was {@link opened}, if the request is about something open. */
  handle: H | undefined = undefined
  /** What a copy goes to. */
  otherHandle: H | undefined = undefined
  /** The text of a symbolic link to be made. */
  readonly link: FileName = new FileName(LINK_MAX)
  /** Of the system call that this is about: O_… of open(2), RENAME_… and so on, as each method of `FileSystem` says. */
  flags = 0
  /** Type and permissions of what is made; the guest has applied its umask. */
  mode = 0
  /** Whether an fsync may leave the attributes out. */
  dataOnly = false
  /** In bytes, below 2^53. */
  position = 0
  /** Where a copy goes, in bytes, below 2^53. */
  otherPosition = 0
  /** In bytes, up to 1 MiB for data. */
  length = 0
  /** What a setattr changes. */
  readonly changes: AttributeChanges = new AttributeChanges()
  /** A write's data: `length` bytes that are in guest memory. Read each of them once. */
  readonly source: Reader = new Reader()
  /** Where a read's data goes. */
  readonly target: Writer = new Writer()
  /** The user who asks, as the guest numbers users. */
  uid = 0
  /** The group that asks, as the guest numbers groups. */
  gid = 0

  /** To be set: the file of that name. */
  found: N | undefined = undefined
  /** To be set: what is open. */
  opened: H | undefined = undefined
  /** To be set with {@link opened}: what the guest has cached of the contents is still right. */
  keepCache = false
  /** To be filled in. */
  readonly attributes: Attributes = new Attributes()
  /** To be filled in. */
  readonly space: FsSpace = new FsSpace()
  /** To be added to. */
  readonly list: DirectoryList<N, H>
  readonly #session: Session

  /** @internal Where the reply's header goes. */
  readonly header: Writer = new Writer()
  /** @internal */
  operation: Operation | undefined = undefined
  /** @internal */
  nodeId = 0
  /** @internal The number that the driver knows the request by: 64 bits of anything. */
  uniqueLow = 0
  /** @internal */
  uniqueHigh = 0
  /** @internal The mount that the request belongs to. */
  generation = 0
  /** @internal */
  chain: DescriptorChain = NO_CHAIN
  /** @internal */
  queue: Virtqueue | undefined = undefined
  /** @internal */
  runner: QueueRunner | undefined = undefined

  /** @internal */
  constructor(session: Session) {
    const root = session.fileSystem.root as N
    this.node = root
    this.otherNode = root
    this.list = new DirectoryList(this, session)
    this.#session = session
  }

  /** Whether the guest still waits for what this gives. After a reset its memory is not to be touched. */
  get isCurrent(): boolean {
    return this.isAnswerable && this.generation === this.#session.generation
  }

  /** @internal Whether there is a place for an answer, of whatever mount. */
  get isAnswerable(): boolean {
    const { queue, runner } = this
    return queue !== undefined && runner?.isCurrent(queue) === true
  }

  /** @internal Nothing of the request before. */
  clear(): void {
    this.handle = undefined
    this.otherHandle = undefined
    this.found = undefined
    this.opened = undefined
    this.keepCache = false
    this.flags = 0
    this.mode = 0
    this.dataOnly = false
    this.position = 0
    this.otherPosition = 0
    this.length = 0
  }
}
