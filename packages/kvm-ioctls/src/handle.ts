/**
 * What every KVM object is: a descriptor that answers to requests.
 */
import { closeFd, type IoctlArgument, ioctl, ioctlRaw } from '@vmm/sys-util'
import * as requests from './constants/requests.ts'
import type { Struct } from './layout/struct.ts'

/** The name of a request that this package knows. */
export type RequestName = keyof typeof requests

const numbers: Readonly<Record<RequestName, number>> = { ...requests }

/** An object of KVM, by its descriptor. Calls after {@link close} fail with EBADF. */
export class Handle implements Disposable {
  #fd: number
  readonly #owned: boolean

  /**
   * @param fd an open descriptor of the right kind
   * @param owned whether {@link close} closes it; default true
   */
  protected constructor(fd: number, owned = true) {
    this.#fd = fd
    this.#owned = owned
  }

  /** The descriptor; -1 after {@link close}. */
  get fd(): number {
    return this.#fd
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#fd === -1
  }

  /** Closes the descriptor. Idempotent. */
  close(): void {
    if (this.#fd === -1) return
    const fd = this.#fd
    this.#fd = -1
    if (this.#owned) closeFd(fd)
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/** Makes a request; failures are thrown as SystemError. */
export function request(handle: Handle, name: RequestName, argument?: IoctlArgument): number {
  return ioctl(handle.fd, numbers[name], name, argument)
}

/** Makes a request; a failure is the negative errno. */
export function requestRaw(handle: Handle, name: RequestName, argument?: IoctlArgument): number {
  return ioctlRaw(handle.fd, numbers[name], argument)
}

/**
 * Makes a request that asks whether there is something.
 * @param absent the errno that says no; others are thrown
 */
export function probe(handle: Handle, name: RequestName, argument: IoctlArgument, absent: number): boolean {
  return requestRaw(handle, name, argument) !== -absent && request(handle, name, argument) >= 0
}

/** Makes a request that fills a structure: the one given, or a new copy. */
export function getStruct<T extends object>(
  handle: Handle,
  name: RequestName,
  struct: Struct<T>,
  into?: T,
): T {
  if (into !== undefined) {
    request(handle, name, struct.bytesOf(into))
    return into
  }
  const bytes = new Uint8Array(struct.size)
  request(handle, name, bytes)
  return struct.decode(bytes)
}

/** Makes a request that reads a structure. */
export function setStruct<T extends object>(
  handle: Handle,
  name: RequestName,
  struct: Struct<T>,
  value: T,
): number {
  return request(handle, name, struct.encode(value))
}
