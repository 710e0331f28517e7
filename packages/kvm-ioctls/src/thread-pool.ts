/**
 * How many runs libuv's thread pool can hold. A run holds one of its threads until it ends: one too many would wait for
 * a thread, for as long as the guests like. (So would every use of the file system and of DNS: leave some threads free.)
 *
 * Who runs vCPUs in loops reserves threads for all of them, or for none: between two runs of a loop its thread is free, and another
 * might take it. The count is of this thread of JavaScript; the pool is the process's.
 */
import { countPoolThreads, threadPoolBounds } from '@vmm/sys-util'
import { KvmError } from './errors.ts'
import { holdSpare, releaseSpare } from './spare-descriptor.ts'

/** Threads that no reservation takes: what the file system and DNS have while every vCPU is in its guest. */
export const SPARE_THREADS = 1

/** How many threads there are; undefined until the first run. */
let size: number | undefined
let counting: Promise<void> | undefined
/** By runs without a reservation. */
let held = 0
/** By reservations. */
let reserved = 0
const runners = new WeakSet<object>()
const reservers = new WeakSet<object>()

/**
 * Takes a thread for a run, where none is reserved for the vCPU.
 * @returns undefined, or a promise of it where the pool's threads have to be counted first
 * @throws KvmError ERR_KVM_THREADPOOL_EXHAUSTED
 */
export function takeThread(vcpu: object): Promise<void> | undefined {
  if (reservers.has(vcpu)) return undefined
  const known = knowSize()
  if (known !== undefined) return known.then(() => take(vcpu))
  take(vcpu)
  return undefined
}

/** Gives it back. */
export function giveThread(vcpu: object): void {
  if (runners.delete(vcpu)) held--
}

/** Threads of libuv's pool that are kept for the runs of some vCPUs, until it is closed. */
export class ThreadReservation implements Disposable {
  #vcpus: readonly object[]
  #isClosed = false

  /** @internal Use {@link reserveThreads}. */
  constructor(vcpus: readonly object[]) {
    holdSpare()
    this.#vcpus = vcpus
    reserved += vcpus.length
    for (const vcpu of vcpus) reservers.add(vcpu)
  }

  /** Lets go of the threads. Idempotent; after the last run of the vCPUs. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    releaseSpare()
    reserved -= this.#vcpus.length
    for (const vcpu of this.#vcpus) reservers.delete(vcpu)
    this.#vcpus = []
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/**
 * Keeps a thread for each of some vCPUs: their runs are never refused then. {@link SPARE_THREADS} of the pool are left to others.
 * @param vcpus none of which has a reservation, or a run under way
 * @returns the reservation, or a promise of it where the pool's threads have to be counted first
 * @throws KvmError ERR_KVM_THREADPOOL_EXHAUSTED where there are too few for all of them, SystemError where there is no descriptor
 *   left: one is kept to end the runs with; the promise rejects then
 */
export function reserveThreads(vcpus: readonly object[]): ThreadReservation | Promise<ThreadReservation> {
  const known = knowSize()
  return known === undefined ? reserve(vcpus) : known.then(() => reserve(vcpus))
}

/** Has {@link size} set: at once, or when the promise settles. */
function knowSize(): Promise<void> | undefined {
  if (size !== undefined) return undefined
  const { certain, possible } = threadPoolBounds()
  // UV_THREADPOOL_SIZE was changed while the process ran: whether that was in time only the pool can tell, and it
  // cannot once runs are under way, which come and go.
  if (certain < possible) {
    counting ??= count(certain, possible).finally(() => {
      // Where that has failed, as for want of a descriptor, the next one tries again.
      counting = undefined
    })
    return counting
  }
  size = certain
  return undefined
}

async function count(certain: number, possible: number): Promise<void> {
  size = Math.max(certain, await countPoolThreads(possible))
}

const ADVICE = 'have UV_THREADPOOL_SIZE set before Node.js starts'

function take(vcpu: object): void {
  if (held + reserved >= (size ?? 0)) {
    throw new KvmError(
      'ERR_KVM_THREADPOOL_EXHAUSTED',
      `${held + reserved} vCPUs hold all ${size} threads of libuv's pool: ${ADVICE}`,
    )
  }
  held++
  runners.add(vcpu)
}

function reserve(vcpus: readonly object[]): ThreadReservation {
  const free = (size ?? 0) - SPARE_THREADS - held - reserved
  if (vcpus.length > free) {
    const [wanted, taken] = [vcpus.length, held + reserved].map((n) => `${n} vCPU${n === 1 ? '' : 's'}`)
    throw new KvmError(
      'ERR_KVM_THREADPOOL_EXHAUSTED',
      `no threads for ${wanted}: libuv's pool has ${size}, of which ${taken} have one each and ${SPARE_THREADS} is left to the file system and DNS; ${ADVICE}`,
    )
  }
  return new ThreadReservation(vcpus)
}
