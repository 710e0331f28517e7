/** Requests on their way in: taken apart, refused where nothing need be asked, and begun at the file system. */
import type { Reader } from '@vmm/virtio-queue'
import type { VirtioFault, VirtioTransport } from '../device.ts'
import type { QueueRunner } from '../queue-runner.ts'
import { errnoOf, FS_ERRNO } from './errno.ts'
import type { FsOutcome } from './file-system.ts'
import type { Operation } from './operation.ts'
import { OPERATIONS } from './operations/index.ts'
import type { FsRequest } from './request.ts'
import type { Session } from './session.ts'
import * as spec from './spec.ts'

const MALFORMED: VirtioFault = Object.freeze({
  code: 'ERR_FS_REQUEST',
  needsReset: false,
  message:
    'a request to the file system is not in guest memory, has no whole header, or another length than that says',
})
const NO_ROOM: VirtioFault = Object.freeze({
  code: 'ERR_FS_REPLY',
  needsReset: false,
  message: 'a request to the file system has no room for its answer',
})

export class Intake {
  readonly #session: Session
  readonly #transport: VirtioTransport

  constructor(session: Session, transport: VirtioTransport) {
    this.#session = session
    this.#transport = transport
  }

  /** @param isMapped whether all of the request's memory is there */
  begin(request: FsRequest, isMapped: boolean): FsOutcome {
    const { chain, source, target, runner } = request
    source.attach(chain)
    target.attach(chain)
    const length = source.readUint32()
    const opcode = source.readUint32()
    request.uniqueLow = source.readUint32()
    request.uniqueHigh = source.readUint32()
    request.nodeId = source.readUint64()
    request.uid = source.readUint32()
    request.gid = source.readUint32()
    // Process, and extensions that are not negotiated.
    source.skip(8)
    request.generation = this.#session.generation
    request.operation = undefined
    if (!isMapped || source.failed || length !== chain.readableBytes || length > spec.FS_REQUEST_BYTES_MAX) {
      // The pop has reported memory that is not there.
      if (isMapped) this.#transport.fault(MALFORMED, (runner as QueueRunner).index)
      return -FS_ERRNO.EINVAL
    }
    if (isUnanswered(opcode)) {
      this.#forget(opcode, request.nodeId, source)
      return 0
    }
    const operation = OPERATIONS[opcode]
    const refused = this.#check(request, opcode, operation)
    if (refused < 0 || operation === undefined) return refused
    try {
      return operation.begin(this.#session, request)
    } catch (error) {
      return this.errorOf(error)
    }
  }

  /** What is refused without a look at the arguments. @returns 0, or a negative errno */
  #check(request: FsRequest, opcode: number, operation: Operation | undefined): number {
    const session = this.#session
    const { chain, header, target, nodeId } = request
    header.attach(chain).splitAt(Math.min(spec.FUSE_OUT_HEADER_SIZE, chain.writableBytes), target)
    if (chain.writableBytes < spec.FUSE_OUT_HEADER_SIZE + (operation?.replyBytes ?? 0)) {
      this.#transport.fault(NO_ROOM, (request.runner as QueueRunner).index)
      return -FS_ERRNO.EINVAL
    }
    if (operation === undefined) return -FS_ERRNO.ENOSYS
    if (!session.isMounted && opcode !== spec.FUSE_INIT) return -FS_ERRNO.EIO
    // INIT and DESTROY have no node.
    const node = nodeId === 0 ? session.fileSystem.root : session.nodes.get(nodeId)
    if (node === undefined && operation.mayBeForgotten !== true) return -FS_ERRNO.ESTALE
    request.node = node ?? session.fileSystem.root
    request.operation = operation
    if (operation.changes === true) {
      if (session.fileSystem.readOnly) return -FS_ERRNO.EROFS
      // What is made and cannot be told of would be a surprise.
      if (operation.givesNode === true && session.nodes.isFull) return -FS_ERRNO.ENFILE
    }
    return operation.givesHandle === true && session.handles.isFull ? -FS_ERRNO.ENFILE : 0
  }

  #forget(opcode: number, nodeId: number, source: Reader): void {
    if (opcode === spec.FUSE_FORGET) this.#forgetOne(nodeId, source.readUint64())
    if (opcode !== spec.FUSE_BATCH_FORGET) return
    const count = Math.min(
      source.readUint32(),
      Math.floor((source.available - 4) / spec.FUSE_FORGET_ONE_SIZE),
    )
    source.skip(4)
    for (let i = 0; i < count; i += 1) this.#forgetOne(source.readUint64(), source.readUint64())
  }

  #forgetOne(nodeId: number, count: number): void {
    const node = this.#session.nodes.forget(nodeId, count)
    if (node !== undefined) this.#session.forget(node)
  }

  /** What a file system throws: an answer, or a failure that is reported. */
  errorOf(error: unknown): number {
    const errno = errnoOf(error)
    if (errno === undefined) this.#transport.hostFailure(error)
    return errno ?? -FS_ERRNO.EIO
  }
}

/** What has no answer. Interrupts are not acted upon: what they are meant for is answered soon. */
function isUnanswered(opcode: number): boolean {
  return opcode === spec.FUSE_FORGET || opcode === spec.FUSE_BATCH_FORGET || opcode === spec.FUSE_INTERRUPT
}
