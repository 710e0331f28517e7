/** The saved state of a balloon, and what must hold of one that comes from a file. */
import { StateChecker } from '../../state.ts'

/** What {@link Balloon.state} returns: plain data that survives JSON. */
export interface BalloonState {
  readonly version: 1
  /** In pages of 4096 bytes. */
  readonly targetPages: number
  /** What the driver says it has given up, in such pages. */
  readonly actualPages: number
  /** `poison_val`. */
  readonly poison: number
}

/** @throws DevicesError ERR_DEVICE_STATE */
export function checkBalloonState(state: unknown): BalloonState {
  const check = new StateChecker('virtio-balloon', state as object)
  check.version(1)
  return {
    version: 1,
    targetPages: check.bits('targetPages', 0xffff_ffff),
    actualPages: check.bits('actualPages', 0xffff_ffff),
    poison: check.bits('poison', 0xffff_ffff),
  }
}
