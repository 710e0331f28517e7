/**
 * What the devices ask of the host. Each is an interface of one or two methods that a VMM fills in
 * as it likes: an irqfd, a mock, `Date`. Nothing here touches KVM or the operating system.
 */

/**
 * An edge-triggered interrupt line, as ISA devices have it: one call, one edge. Over KVM it is an
 * irqfd, and `trigger` a write to its eventfd.
 *
 * Called inside the guest's access. What it throws reaches the VMM, from the bus as the cause of
 * `ERR_DEVICE_FAILED`.
 */
export interface Interrupt {
  /** One edge. */
  trigger(): void
}

/** The default of devices that are not wired to an interrupt controller. */
export const NO_INTERRUPT: Interrupt = Object.freeze({ trigger() {} })

/**
 * A source of time, in milliseconds; fractions are fine. What zero means is said where a clock is asked for.
 */
export interface Clock {
  /** In milliseconds. */
  now(): number
}

/** The host's wall clock: milliseconds since 1970-01-01 UTC. It steps when the host's clock is set. */
export const WALL_CLOCK: Clock = Object.freeze({ now: () => Date.now() })

/** Time that only moves on: milliseconds since the process began. */
export const MONOTONIC_CLOCK: Clock = Object.freeze({ now: () => performance.now() })

/** A pending call of {@link Timers.after}. */
export interface PendingCall {
  /** Makes sure that the callback is not called any more. Harmless when it has been. */
  cancel(): void
}

/** One-shot timers. */
export interface Timers {
  /** Calls `callback` once, `delayMs` milliseconds (0 to 86,400,000) from now or somewhat later. */
  after(delayMs: number, callback: () => void): PendingCall
}

/** Node's own timers, which do not keep the process alive. */
export const NODE_TIMERS: Timers = Object.freeze({
  after(delayMs: number, callback: () => void): PendingCall {
    const timeout = setTimeout(callback, delayMs)
    timeout.unref()
    return { cancel: () => clearTimeout(timeout) }
  },
})
