/** Who does what has to be waited for: io_uring, or threads. */
import type { Job } from './job.ts'

/** Where a backend reports to. */
export interface BackendSink {
  /** A job's transfer has ended: with bytes, 0 at the end of the file, or the negative errno. */
  ended(job: Job, result: number): void
  /** That is all for now. */
  settled(): void
}

/** It begins what it is given, and reports the end in a later turn, or when it is waited for. */
export interface Backend {
  /** Whether data goes through buffers: then nothing that is under way touches guest memory. */
  readonly isBuffered: boolean
  /** Whether it takes ranges to discard and to zero. */
  readonly hasRanges: boolean

  /** Once, before anything else. */
  attach(sink: BackendSink): void

  /**
   * Takes a job.
   * @returns false where there is no room before something has ended
   */
  begin(job: Job): boolean

  /** Sees to it that what was taken is under way. */
  submit(): void

  /** Blocks until something has ended, and reports it. Of those that are not buffered. */
  wait(): void

  /** fdatasync(2). One at a time. */
  datasync(done: (error: Error | null) => void): void

  /** Ends its use, and calls back once nothing is under way, at once or later. Nothing more is reported. */
  close(done: () => void): void
}
