/**
 * A descriptor on the event loop of Node.js, by koffi's handle for that. koffi ends the process where the handle calls, or has called, and
 * JavaScript is stopped or gone: so it would be with a worker that ends. There JavaScript runs after the call, in the same turn of the
 * event loop, and the handle is closed before the worker ends. Who terminates a worker leaves no time for that.
 */
import { readFileSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'
import koffi from 'koffi'
import { libc } from './libc.ts'

const RTLD_NOW = 0x2
const RTLD_NODELETE = 0x1000

let isKept = false

/** Node.js unloads koffi with the last thread that has it, and libuv then calls what it has of it: it has to stay. */
function keepKoffi(): void {
  if (isKept) return
  isKept = true
  const [path] = /\/.*koffi[^/]*\.node$/m.exec(readFileSync('/proc/self/maps', 'utf8')) ?? []
  if (path !== undefined) libc().dlopen(path, RTLD_NOW | RTLD_NODELETE)
}

function drainMicrotasks(): void {}

/** Calls back in each turn of the event loop in which the descriptor is readable. It does not keep the process running at first. */
export class LoopPoll {
  // koffi's handle stops polling, silently, once it is garbage: this holds it.
  readonly #handle: ReturnType<typeof koffi.node.poll>
  readonly #ready: () => void
  #isClosed = false

  constructor(fd: number, ready: () => void) {
    this.#ready = ready
    if (!isMainThread) {
      keepKoffi()
      process.on('exit', this.#close)
    }
    this.#handle = koffi.node.poll(fd, { readable: true }, isMainThread ? this.#call : this.#callLater)
    this.#handle.unref()
  }

  ref(): void {
    this.#handle.ref()
  }

  unref(): void {
    this.#handle.unref()
  }

  /** Idempotent. */
  close(): void {
    process.off('exit', this.#close)
    this.#close()
  }

  readonly #close = (): void => {
    this.#isClosed = true
    this.#handle.close()
  }

  readonly #call = (): void => {
    // koffi calls without a callback scope: promises that the callbacks settle would wait for some other event.
    // An immediate has such a scope, and runs in the same turn of the loop.
    setImmediate(drainMicrotasks)
    this.#ready()
  }

  readonly #callLater = (): void => {
    setImmediate(this.#callNow)
  }

  readonly #callNow = (): void => {
    if (!this.#isClosed) this.#ready()
  }
}
