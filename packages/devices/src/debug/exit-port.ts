/**
 * A port through which a guest ends its VM with a value, as QEMU's isa-debug-exit does. For test guests: it
 * needs no ACPI, no i8042 and one instruction.
 */
import type { BusDevice } from '../bus/device.ts'

/** The port that QEMU's users give isa-debug-exit. */
export const EXIT_PORT = 0xf4
/** Ports that an {@link ExitPort} takes, so that the value may be of 1, 2 or 4 bytes. */
export const EXIT_PORT_SIZE = 4

/**
 * Reports the first value that the guest writes; later ones are ignored, as the VM is on its way out. What
 * the value means is between the guest and the VMM; QEMU's exit status would be `value * 2 + 1`.
 */
export class ExitPort implements BusDevice {
  readonly #onExit: (value: number) => void
  #written = false

  /** @param onExit - gets the value, unsigned and as wide as the guest wrote it: up to 32 bits */
  constructor(onExit: (value: number) => void) {
    this.#onExit = onExit
  }

  /** Reads 0. */
  read(): number {
    return 0
  }

  write(offset: number, value: number): void {
    if (offset !== 0 || this.#written) return
    this.#written = true
    this.#onExit(value)
  }
}
