/**
 * The provider, as the thread of faults sees it: a worker that is asked, and believed nothing.
 */
import { Worker } from 'node:worker_threads'
import { hex } from '../errors.ts'
import type { Failure, ProviderReply, ProviderRequest, ProviderSource } from './protocol.ts'

/** Pages as a provider gives them. */
export type Pages = Uint8Array<ArrayBuffer> | 'zeros'

/** A failure on its way: thrown and caught in the thread of faults alone. */
export class PageFailure extends Error implements Failure {
  readonly address: number | undefined
  override readonly cause: Error | undefined

  constructor({ message, address, cause }: Failure) {
    super(message)
    this.address = address
    this.cause = cause
  }
}

/** Who waits for pages. */
interface Pending {
  readonly address: number
  readonly resolve: (pages: Pages) => void
  readonly reject: (failure: PageFailure) => void
  readonly timer: NodeJS.Timeout
}

/** What a link is made from. */
export interface ProviderLinkOptions {
  readonly source: ProviderSource
  /** How long it may take to open, to answer, and to close. */
  readonly timeoutMs: number
  readonly ready: () => void
  /** The provider could not be opened, or has died: called once, and there are no pages any more. */
  readonly gone: (failure: Failure) => void
}

/** A worker that runs a provider. */
export class ProviderLink {
  readonly #worker: Worker
  readonly #options: ProviderLinkOptions
  readonly #pending = new Map<number, Pending>()
  #lastId = 0
  /** From when the thread runs until the provider is open. */
  #opening: NodeJS.Timeout | undefined
  #lastError: Error | undefined
  #gone: Failure | undefined
  #closed: () => void = () => {}

  constructor(options: ProviderLinkOptions) {
    this.#options = options
    this.#worker = new Worker(new URL('./provider-thread.js', import.meta.url), {
      workerData: options.source,
      name: 'page provider',
    })
    this.#worker.on('online', () => {
      const { timeoutMs } = options
      this.#opening = setTimeout(() => {
        this.#end({ message: `the page provider has not been opened in ${timeoutMs} ms` })
      }, timeoutMs)
    })
    this.#worker.on('message', (message: ProviderReply) => this.#take(message))
    this.#worker.on('error', (error: Error) => {
      this.#lastError = error
    })
    this.#worker.on('exit', (code) => {
      const message = `the page provider has died: ${this.#lastError?.message ?? `exit code ${code}`}`
      this.#end({ message, cause: this.#lastError })
    })
  }

  /**
   * Asks for pages.
   * @throws PageFailure as a rejection
   */
  fill(address: number, size: number): Promise<Pages> {
    if (this.#gone !== undefined) return Promise.reject(new PageFailure({ ...this.#gone, address }))
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      const { timeoutMs } = this.#options
      const timer = setTimeout(() => {
        this.#pending.delete(id)
        const message = `the page provider has not given the pages at ${hex(address)} in ${timeoutMs} ms`
        reject(new PageFailure({ message, address }))
      }, timeoutMs)
      this.#pending.set(id, { address, resolve, reject, timer })
      const into = new Uint8Array(size)
      this.#post({ kind: 'fill', id, address, into }, [into.buffer])
    })
  }

  /** Has the provider close itself, and ends its thread. */
  async close(): Promise<void> {
    if (this.#gone === undefined) {
      const closed = new Promise<void>((resolve) => {
        this.#closed = resolve
      })
      const timer = setTimeout(() => this.#closed(), this.#options.timeoutMs)
      this.#post({ kind: 'close' })
      await closed
      clearTimeout(timer)
    }
    await this.#worker.terminate()
  }

  #post(message: ProviderRequest, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer)
  }

  #take(message: ProviderReply): void {
    if (message.kind === 'ready') {
      clearTimeout(this.#opening)
      return this.#options.ready()
    }
    if (message.kind === 'closed') return this.#closed()
    if (message.kind === 'unopened') {
      const { cause } = message
      return this.#end({ message: `the page provider cannot be opened: ${cause.message}`, cause })
    }
    const pending = this.#pending.get(message.id)
    // Nothing waits for what comes too late.
    if (pending === undefined) return
    this.#pending.delete(message.id)
    clearTimeout(pending.timer)
    if (message.kind === 'filled') {
      pending.resolve(message.result === 'zeros' ? 'zeros' : message.into)
      return
    }
    const { address } = pending
    const text = `the page provider has failed for the pages at ${hex(address)}: ${message.cause.message}`
    pending.reject(new PageFailure({ message: text, address, cause: message.cause }))
  }

  #end(failure: Failure): void {
    if (this.#gone !== undefined) return
    this.#gone = failure
    clearTimeout(this.#opening)
    this.#closed()
    for (const { address, reject, timer } of this.#pending.values()) {
      clearTimeout(timer)
      reject(new PageFailure({ ...failure, address }))
    }
    this.#pending.clear()
    this.#options.gone(failure)
  }
}
