/**
 * For tests of devices: a driver for either kind of queue, and guest memory with guards.
 * @packageDocumentation
 */
import type { MockDriverOptions } from './mock-driver.ts'
import { MockPackedDriver } from './mock-packed-driver.ts'
import { MockSplitDriver } from './mock-split-driver.ts'

export type { MockBuffer, MockDriverOptions, MockUsed, RawDescriptor } from './mock-driver.ts'
export { MockDriver } from './mock-driver.ts'
export type { MockRange, Place } from './mock-memory.ts'
export { locate, MockMemory } from './mock-memory.ts'
export { MockPackedDriver } from './mock-packed-driver.ts'
export { MockSplitDriver } from './mock-split-driver.ts'

/** A driver of the kind that `features.packed` asks for. */
export function createMockDriver(options: MockDriverOptions): MockSplitDriver | MockPackedDriver {
  return options.features?.packed === true ? new MockPackedDriver(options) : new MockSplitDriver(options)
}
