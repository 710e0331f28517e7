/**
 * What goes to a backend and when: no more at a time than one can wait for when the driver takes its memory back, and
 * through buffers where it cannot go straight.
 */
import type { Backend } from './backend.ts'
import { BouncePool } from './bounce.ts'
import type { Job } from './job.ts'

/** The most bytes under way, but for the job that passes it: a reset has to wait for them. */
const BYTES_MAX = 2 ** 26
const ECANCELED = 125

/** What {@link Scheduler} gives for a job that the driver does not wait for any more. */
export const CANCELED: number = -ECANCELED

export class Scheduler {
  readonly #backend: Backend
  readonly #ended: (job: Job, result: number) => void
  readonly #bounces: BouncePool
  #waiting: Job[] = []
  #underWay = 0
  #bytes = 0
  #isDraining = false

  /**
   * @param buffers how many there are: of a buffered backend, also the most jobs at a time
   * @param ended told of each job's transfer, as `BackendSink.ended` is
   */
  constructor(backend: Backend, buffers: number, ended: (job: Job, result: number) => void) {
    this.#backend = backend
    this.#bounces = new BouncePool(buffers)
    this.#ended = ended
  }

  /** Takes a job. {@link start} begins it. */
  add(job: Job): void {
    this.#waiting.push(job)
  }

  /** Begins what there is room for. */
  start(): void {
    if (this.#isDraining || this.#waiting.length === 0) {
      this.#backend.submit()
      return
    }
    let begun = 0
    for (const job of this.#waiting) {
      if (!job.request.isCurrent) this.#ended(job, CANCELED)
      else if (!this.#begin(job)) break
      begun += 1
    }
    this.#waiting.splice(0, begun)
    this.#backend.submit()
  }

  /** What the backend tells of a job. */
  ended(job: Job, result: number): void {
    this.#underWay -= 1
    this.#bytes -= job.chunk
    const { bounce } = job
    if (bounce !== undefined) {
      if (job.toMemory && result > 0 && job.request.isCurrent) job.vector.copyFrom(bounce.address, result)
      job.bounce = undefined
      this.#bounces.give(bounce)
    }
    this.#ended(job, result)
  }

  /**
   * Waits until nothing under way touches guest memory. What was not begun stays, and is looked at again by {@link start}.
   * @returns whether there was anything
   */
  drain(): boolean {
    if (this.#backend.isBuffered || (this.#underWay === 0 && this.#waiting.length === 0)) return false
    this.#isDraining = true
    try {
      while (this.#underWay > 0) this.#backend.wait()
    } finally {
      this.#isDraining = false
    }
    return true
  }

  /** Whether jobs wait to be begun. */
  get hasWaiting(): boolean {
    return this.#waiting.length > 0
  }

  /**
   * Drops what was not begun, and waits as {@link drain} does.
   * @param done called once nothing is under way, at once or later
   */
  close(done: () => void): void {
    this.#waiting = []
    this.drain()
    this.#backend.close(() => {
      this.#bounces.close()
      done()
    })
  }

  #begin(job: Job): boolean {
    if (this.#bytes >= BYTES_MAX) return false
    if (this.#backend.isBuffered || !job.isAligned) {
      const bounce = this.#bounces.take()
      if (bounce === undefined) return false
      job.bounce = bounce
      if (!job.toMemory) job.vector.copyTo(bounce.address, job.chunk)
    }
    if (!this.#backend.begin(job)) {
      if (job.bounce !== undefined) this.#bounces.give(job.bounce)
      job.bounce = undefined
      return false
    }
    this.#underWay += 1
    this.#bytes += job.chunk
    return true
  }
}
