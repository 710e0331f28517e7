/**
 * A port through which a guest says that it has booted, so that a VMM can time it. Firecracker has the same
 * as an MMIO register; a port is written by `outb` from user space after `ioperm`, without a mapping of
 * /dev/mem.
 */
import type { BusDevice } from '../bus/device.ts'
import type { Clock } from '../host.ts'

/** The port: the first one of a PC's floppy controller, which no microVM has. */
export const BOOT_TIMER_PORT = 0x3f0
/** Ports that a {@link BootTimer} takes. */
export const BOOT_TIMER_SIZE = 1
/** What a guest writes once it has booted; Firecracker's value. Others are ignored. */
export const BOOT_MARKER = 123

/** Reports the first boot marker that the guest writes, with the time. */
export class BootTimer implements BusDevice {
  readonly accessBytes = 1
  readonly #onBoot: (time: number) => void
  readonly #clock: Clock
  #marked = false

  /**
   * @param onBoot - gets the clock's time of the marker
   * @param clock - `performance` unless given: milliseconds since the process began
   */
  constructor(onBoot: (time: number) => void, clock: Clock = performance) {
    this.#onBoot = onBoot
    this.#clock = clock
  }

  /** Reads 0. */
  read(): number {
    return 0
  }

  write(offset: number, value: number): void {
    if (offset !== 0 || value !== BOOT_MARKER || this.#marked) return
    this.#marked = true
    this.#onBoot(this.#clock.now())
  }
}
