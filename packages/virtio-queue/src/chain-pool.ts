/**
 * Chains for devices that have several requests in flight.
 */
import { DescriptorChain } from './chain.ts'

/**
 * Lends chains. Makes one only when all are out, so that after a while it makes no more: a queue never has more in
 * flight than its size.
 *
 * @example
 * ```ts
 * for (;;) {
 *   const chain = pool.take()
 *   if (queue.pop(chain) !== POP_OK) { pool.give(chain); break }
 *   disk.read(chain).then((length) => { queue.addUsed(chain, length); pool.give(chain) })
 * }
 * ```
 */
export class ChainPool {
  readonly #idle: DescriptorChain[] = []

  /** A chain that nobody else has. */
  take(): DescriptorChain {
    return this.#idle.pop() ?? new DescriptorChain()
  }

  /** Takes a chain back, once: from now on it is somebody else's. */
  give(chain: DescriptorChain): void {
    this.#idle.push(chain)
  }
}
