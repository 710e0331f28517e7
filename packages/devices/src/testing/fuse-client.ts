/**
 * A guest's FUSE driver over virtio-fs, for tests and benches: requests as Linux lays them out, answers taken apart. Written to be
 * read; any request can be made, well-formed or not.
 */
import type { GuestMemory } from '@vmm/virtio-queue'
import { locate } from '@vmm/virtio-queue/testing'
import type { Fs } from '../virtio/fs/fs.ts'
import * as spec from '../virtio/fs/spec.ts'
import { MOCK_QUEUE_BYTES, MockTransport } from './mock-transport.ts'

const REQUEST_QUEUE = 1

/** An answer. */
export interface FuseReply {
  /** A negative errno, or 0. */
  readonly error: number
  /** What follows the header. */
  readonly body: Buffer
}

/** `struct fuse_attr`, what of it tests look at. */
export interface FuseAttributes {
  readonly inode: number
  /** In bytes. */
  readonly size: number
  /** In seconds since 1970. */
  readonly modified: bigint
  /** Type and permissions. */
  readonly mode: number
  readonly links: number
  readonly uid: number
  readonly gid: number
}

/** `struct fuse_entry_out`. */
export interface FuseEntry extends FuseAttributes {
  /** The number that requests name it by; 1 is the root. */
  readonly id: number
  /** For how long the name is good, in seconds. */
  readonly valid: number
}

/** `struct fuse_dirent`, or `fuse_direntplus`. */
export interface FuseDirent {
  readonly name: string
  readonly inode: number
  /** DT_… */
  readonly type: number
  /** Where to go on after it. */
  readonly next: bigint
  /** With READDIRPLUS. */
  readonly entry: FuseEntry | undefined
}

/** A request that was refused. */
export class FuseError extends Error {
  /** Negative. */
  readonly errno: number

  constructor(opcode: number, errno: number) {
    super(`opcode ${opcode} was answered with ${errno}`)
    this.errno = errno
  }
}

/** 32-bit numbers as they are in a request, and 64-bit ones as bigint. */
export function fuseArguments(...values: readonly (number | bigint | string | Uint8Array)[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      if (typeof value === 'string') return Buffer.from(`${value}\0`)
      if (value instanceof Uint8Array) return value
      const bytes = Buffer.alloc(typeof value === 'bigint' ? 8 : 4)
      if (typeof value === 'bigint') bytes.writeBigUInt64LE(BigInt.asUintN(64, value))
      else bytes.writeUInt32LE(value >>> 0)
      return bytes
    }),
  )
}

/** Takes `struct fuse_attr` apart. */
export function parseAttributes(body: Buffer): FuseAttributes {
  return {
    inode: Number(body.readBigUInt64LE(0)),
    size: Number(body.readBigUInt64LE(8)),
    modified: body.readBigInt64LE(32),
    mode: body.readUInt32LE(60),
    links: body.readUInt32LE(64),
    uid: body.readUInt32LE(68),
    gid: body.readUInt32LE(72),
  }
}

/** Takes `struct fuse_entry_out` apart. */
export function parseEntry(body: Buffer): FuseEntry {
  return {
    id: Number(body.readBigUInt64LE(0)),
    valid: Number(body.readBigUInt64LE(16)) + body.readUInt32LE(32) / 1e9,
    ...parseAttributes(body.subarray(40)),
  }
}

/** Takes the answer to READDIR or READDIRPLUS apart. */
export function parseDirents(body: Buffer, plus: boolean): FuseDirent[] {
  const all: FuseDirent[] = []
  const before = plus ? spec.FUSE_ENTRY_OUT_SIZE : 0
  for (let at = 0; at < body.length; ) {
    const head = body.subarray(at + before)
    const length = head.readUInt32LE(16)
    all.push({
      name: head.toString('latin1', spec.FUSE_NAME_OFFSET, spec.FUSE_NAME_OFFSET + length),
      inode: Number(head.readBigUInt64LE(0)),
      type: head.readUInt32LE(20),
      next: head.readBigUInt64LE(8),
      entry: plus ? parseEntry(body.subarray(at)) : undefined,
    })
    at += Math.ceil((before + spec.FUSE_NAME_OFFSET + length) / 8) * 8
  }
  return all
}

/** One request at a time, or several whose answers come later. */
export class FuseClient {
  /** What the device sits behind. */
  readonly transport: MockTransport
  readonly #device: Fs
  readonly #memory: GuestMemory
  /** Where the next request's bytes go. */
  readonly #base: number
  readonly #waiting = new Map<number, { readonly resolve: (reply: FuseReply) => void; readonly at: number }>()
  #unique = 0n
  #top: number

  /** @param memory 4 MiB or more at address 0 */
  constructor(device: Fs, memory: GuestMemory) {
    this.#device = device
    this.#memory = memory
    this.transport = new MockTransport(device, memory)
    this.#base = MOCK_QUEUE_BYTES * device.queueSizes.length
    this.#top = this.#base
    this.transport.onInterrupt = () => this.#reap()
  }

  /** Sends a request. The answer comes at once from file systems that take no time. */
  send(opcode: number, id: number | bigint, body: Uint8Array, room = 8192): Promise<FuseReply> {
    this.#unique += 1n
    const header = fuseArguments(spec.FUSE_IN_HEADER_SIZE + body.length, opcode, this.#unique, BigInt(id))
    const from = fuseArguments(1000, 1000, 1, 0)
    return this.sendRaw(Buffer.concat([header, from, body]), room)
  }

  /** Sends any bytes. @param room for the answer with its header, in bytes */
  sendRaw(request: Uint8Array, room: number, queue: number = REQUEST_QUEUE): Promise<FuseReply> {
    if (this.#waiting.size === 0) this.#top = this.#base
    const source = this.#top
    const target = source + Math.ceil(request.length / 16) * 16
    this.#top = target + Math.ceil(room / 16) * 16
    const { view } = locate(this.#memory, source)
    new Uint8Array(view.buffer, view.byteOffset, request.length).set(request)
    const driver = this.transport.drivers[queue]
    const buffers = [
      ...(request.length > 0 ? [{ address: source, length: request.length }] : []),
      ...(room > 0 ? [{ address: target, length: room, writable: true }] : []),
    ]
    const token = driver?.add(buffers)
    if (token === undefined) throw new Error('the queue is full')
    return new Promise((resolve) => {
      this.#waiting.set(token, { resolve, at: target })
      driver?.publish()
      this.#device.notify(queue)
      this.#reap()
    })
  }

  /** Sends a request and waits for what it gives. Throws a {@link FuseError}. */
  async call(opcode: number, id: number | bigint, body: Uint8Array, room?: number): Promise<Buffer> {
    const { error, body: answer } = await this.send(opcode, id, body, room)
    if (error !== 0) throw new FuseError(opcode, error)
    return answer
  }

  #reap(): void {
    for (const driver of this.transport.drivers) {
      for (const { token, length } of driver.reapAll()) {
        const waiting = this.#waiting.get(token)
        this.#waiting.delete(token)
        if (waiting === undefined) continue
        const { view } = locate(this.#memory, waiting.at)
        const answer = Buffer.from(view.buffer, view.byteOffset, length)
        const body = Buffer.from(answer.subarray(Math.min(spec.FUSE_OUT_HEADER_SIZE, length)))
        waiting.resolve({ error: length === 0 ? 0 : answer.readInt32LE(4), body })
      }
    }
  }

  /** Mounts. @param flags that the guest offers; default all */
  async init(flags = 0xffff_ffff): Promise<Buffer> {
    return await this.call(spec.FUSE_INIT, 0, fuseArguments(7, 38, 0x2_0000, flags, Buffer.alloc(48)))
  }

  /**
   * Looks a name up in the directory `parent`.
   * @returns an entry of id 0 where there is none, and the guest may remember that
   * @throws FuseError
   */
  async lookup(parent: number, name: string | Uint8Array): Promise<FuseEntry> {
    const bytes = typeof name === 'string' ? name : Buffer.concat([name, Buffer.alloc(1)])
    return parseEntry(await this.call(spec.FUSE_LOOKUP, parent, fuseArguments(bytes)))
  }

  /** One name after another. */
  async walk(path: string): Promise<FuseEntry> {
    let entry: FuseEntry | undefined
    for (const name of path.split('/')) {
      entry = await this.lookup(entry?.id ?? spec.FUSE_ROOT_ID, name)
      if (entry.id === 0) throw new FuseError(spec.FUSE_LOOKUP, -2)
    }
    return entry as FuseEntry
  }

  /** Has no answer. */
  async forget(id: number, count = 1): Promise<void> {
    const body = fuseArguments(BigInt(count))
    const head = fuseArguments(
      spec.FUSE_IN_HEADER_SIZE + body.length,
      spec.FUSE_FORGET,
      0n,
      BigInt(id),
      0,
      0,
      0,
      0,
    )
    await this.sendRaw(Buffer.concat([head, body]), 0, 0)
  }

  /** @throws FuseError */
  async getattr(id: number): Promise<FuseAttributes> {
    return parseAttributes((await this.call(spec.FUSE_GETATTR, id, fuseArguments(0, 0, 0n))).subarray(16))
  }

  /** @returns the handle */
  async open(id: number, flags = 0, opcode: number = spec.FUSE_OPEN): Promise<number> {
    return Number((await this.call(opcode, id, fuseArguments(flags, 0))).readBigUInt64LE(0))
  }

  /** Up to `length` bytes from `position` on. @throws FuseError */
  async read(id: number, handle: number, position: number, length: number): Promise<Buffer> {
    const body = fuseArguments(BigInt(handle), BigInt(position), length, 0, 0n, 0, 0)
    return await this.call(spec.FUSE_READ, id, body, spec.FUSE_OUT_HEADER_SIZE + length)
  }

  /** @returns how many bytes */
  async write(id: number, handle: number, position: number, data: Uint8Array, flags = 1): Promise<number> {
    const body = fuseArguments(BigInt(handle), BigInt(position), data.length, 0, 0n, flags, 0, data)
    return (await this.call(spec.FUSE_WRITE, id, body)).readUInt32LE(0)
  }

  /** Closes. @throws FuseError */
  async release(id: number, handle: number, opcode: number = spec.FUSE_RELEASE): Promise<void> {
    await this.call(opcode, id, fuseArguments(BigInt(handle), 0, 0, 0n))
  }

  /** Makes a file and opens it. */
  async create(
    parent: number,
    name: string,
    flags = 2,
    mode = 0o644,
  ): Promise<{ entry: FuseEntry; handle: number }> {
    const body = await this.call(spec.FUSE_CREATE, parent, fuseArguments(flags, mode, 0, 0, name))
    return { entry: parseEntry(body), handle: Number(body.readBigUInt64LE(spec.FUSE_ENTRY_OUT_SIZE)) }
  }

  /** Makes something by SYMLINK, MKDIR, MKNOD or LINK. */
  async make(opcode: number, parent: number, ...values: (number | bigint | string)[]): Promise<FuseEntry> {
    return parseEntry(await this.call(opcode, parent, fuseArguments(...values)))
  }

  /** Renames `name` of the directory `from` to `newName` of `to`. @throws FuseError */
  async rename(from: number, name: string, to: number, newName: string, flags = 0): Promise<void> {
    await this.call(spec.FUSE_RENAME2, from, fuseArguments(BigInt(to), flags, 0, name, newName))
  }

  /** SETATTR with the values given. */
  async setattr(
    id: number,
    changes: {
      valid: number
      handle?: number
      size?: number
      mode?: number
      uid?: number
      gid?: number
      modified?: bigint
    },
  ): Promise<FuseAttributes> {
    const { valid, handle = 0, size = 0, mode = 0, uid = 0, gid = 0, modified = 0n } = changes
    const times = [0n, modified, 0n, 0, 0, 0]
    const body = fuseArguments(valid, 0, BigInt(handle), BigInt(size), 0n, ...times, mode, 0, uid, gid, 0)
    return parseAttributes((await this.call(spec.FUSE_SETATTR, id, body)).subarray(16))
  }

  /** All of a directory, in as many requests as it takes. @param room of each, in bytes */
  async list(id: number, plus = false, room = 4096): Promise<FuseDirent[]> {
    const handle = await this.open(id, 0, spec.FUSE_OPENDIR)
    const opcode = plus ? spec.FUSE_READDIRPLUS : spec.FUSE_READDIR
    const all: FuseDirent[] = []
    for (;;) {
      const body = fuseArguments(BigInt(handle), all.at(-1)?.next ?? 0n, room, 0, 0n, 0, 0)
      const part = parseDirents(await this.call(opcode, id, body, spec.FUSE_OUT_HEADER_SIZE + room), plus)
      if (part.length === 0) break
      all.push(...part)
    }
    await this.release(id, handle, spec.FUSE_RELEASEDIR)
    return all
  }
}
