/** A guest's clock beside the host's, on hosts that may take seconds over anything. */

/** What a guest's `date +%s` said, and the host's time in seconds when that was not asked yet, and when it was there. */
export interface ClockReading {
  readonly seconds: number
  readonly asked: number
  readonly told: number
}

/** The host's time in seconds. */
export const hostSeconds = (): number => Date.now() / 1000

/** @param asked the host's time before the guest read its clock */
export function clockReading(seconds: string | undefined, asked: number): ClockReading {
  return { seconds: Number(seconds), asked, told: hostSeconds() }
}

/**
 * Seconds by which a guest's clock has moved against the host's between two readings, at the least: how long they took does not count. A
 * kernel that is interpreted may have lost some while it booted, so one reading says nothing.
 */
export function clockDrift(one: ClockReading, other: ClockReading): number {
  const [first, second] = [one, other].map(({ seconds, asked, told }) => ({
    least: seconds - told,
    most: seconds + 1 - asked,
  })) as [Lead, Lead]
  return Math.max(0, second.least - first.most, first.least - second.most)
}

/** Within what the guest's clock is ahead of the host's. */
interface Lead {
  readonly least: number
  readonly most: number
}
