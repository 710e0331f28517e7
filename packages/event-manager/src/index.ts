/**
 * File descriptors to subscribers on the event loop of Node.js.
 * @packageDocumentation
 */
export type { EventManagerErrorCode } from './errors.ts'
export { EventManagerError } from './errors.ts'
export type { EventFdSubscription, EventManagerOptions } from './manager.ts'
export { DEFAULT_CAPACITY, DEFAULT_SPIN_LIMIT, EventManager, MAX_CAPACITY } from './manager.ts'
export type { ErrorListener } from './registry.ts'
export type { EventOps, EventSubscriber, Events, SubscriberId } from './subscriber.ts'
