/** Another vCPU, on a thread of its own: it writes to rings and buffers while a device works with them. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { BUFFERS, type HostileMemory } from './hostile-memory.ts'

/** Plain JavaScript: a worker does not get what the test runner makes of TypeScript. */
const SOURCE = `
const { parentPort, workerData } = require('node:worker_threads')
const { buffer, offset, rings, seed, control } = workerData
const words = new Uint16Array(buffer, offset, rings / 2)
let state = seed | 1
const random = () => {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return state >>> 0
}
parentPort.postMessage('writes')
while (Atomics.load(control, 0) === 0) {
  for (let i = 0; i < 1000; i += 1) {
    // The first bytes of each page of each queue: descriptors, indices, flags.
    const page = random() % (rings / 0x1000)
    const at = page * 0x800 + (random() % (i % 8 === 0 ? 0x800 : 0x90))
    const choice = random()
    if (choice % 4 === 0) Atomics.add(words, at, 1)
    else if (choice % 4 === 1) Atomics.store(words, at, choice & 0x1f)
    else if (choice % 4 === 2) words[at] ^= 1 << (choice >>> 8 & 15)
    else words[at] = words[(at + 8) % words.length]
  }
  Atomics.add(control, 1, 1)
}
`

export class Scribbler {
  readonly #worker: Worker
  readonly #control: Int32Array

  private constructor(worker: Worker, control: Int32Array) {
    this.#worker = worker
    this.#control = control
  }

  /** Returns when it is at work. */
  static async start(memory: HostileMemory, seed: number): Promise<Scribbler> {
    const [region] = memory.regions
    if (region === undefined) throw new Error('no memory')
    const control = new Int32Array(new SharedArrayBuffer(8))
    const { buffer, byteOffset: offset } = region.bytes
    const workerData = { buffer, offset, rings: BUFFERS, seed, control }
    const worker = new Worker(SOURCE, { eval: true, workerData })
    await once(worker, 'message')
    return new Scribbler(worker, control)
  }

  /** @returns how often it has written a thousand times */
  async stop(): Promise<number> {
    Atomics.store(this.#control, 0, 1)
    await this.#worker.terminate()
    return Atomics.load(this.#control, 1)
  }
}
