/**
 * When a side that has moved on must notify the other: the arithmetic of EVENT_IDX, for either kind of ring.
 */

/**
 * Split (2.7.7.2, `vring_need_event`): whether the step to `event + 1` is among the last `added` steps to `index`.
 * @param event what the other side asked for, 16 bits
 * @param index where this side stands now, 16 bits
 * @param added steps taken since the last decision; from 65536 on every event has been passed
 */
export function needEvent(event: number, index: number, added: number): boolean {
  return ((index - event - 1) & 0xffff) < added
}

/**
 * Packed (2.8.10): whether the descriptor that `event` names is among the last `added` up to `index`.
 * @param event `desc` of the event suppression structure: an index, and the wrap counter in bit 15
 * @param index where this side stands now
 * @param wrap this side's wrap counter, 0 or 1
 * @param added descriptors passed since the last decision; above `size` every event has been passed
 * @param size of the queue
 */
export function needPackedEvent(
  event: number,
  index: number,
  wrap: number,
  added: number,
  size: number,
): boolean {
  if (added > size) return true
  const turn = event >>> 15 === wrap ? 0 : size
  const behind = index + turn - (event & 0x7fff) - 1
  return behind >= 0 && behind < added
}
