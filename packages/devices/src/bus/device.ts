/**
 * The two interfaces between a bus and a device: what a device implements, and where it sits.
 *
 * Why numbers and not a window of bytes: nearly every access is one register of 1, 2 or 4 bytes,
 * and `read: (offset) => registers[offset]` is then a whole device. The bus turns numbers into the
 * bytes of `kvm_run` in one place, so no device can get byte order, sign or the length of its
 * window wrong. What does not fit a register is cut up by the bus, as a chipset cuts it for a
 * narrower bus: 8 bytes arrive as two registers of 4, low one first, and no bigint is involved.
 */

/** A device on a {@link Bus}. All it is told is the offset into itself, never the address. */
export interface BusDevice {
  /**
   * The widest access that the device takes, in bytes; 4 unless given. A wider one reaches it as several, at
   * ascending offsets. With 1 an `outw` becomes two byte writes to neighbouring ports, as on an ISA bus.
   */
  readonly accessBytes?: 1 | 2 | 4 | undefined

  /**
   * A guest read. Must not throw on anything that a guest can do: a register that does not exist reads 0.
   *
   * @param offset - from the start of the device, in bytes
   * @param size - 1, 2 or 4, never above {@link accessBytes}; not necessarily aligned
   * @returns the register's value; bits above `size` bytes are cut off
   */
  read(offset: number, size: number): number

  /**
   * A guest write. Must not throw on anything that a guest can do: a register that does not exist ignores it.
   *
   * @param offset - from the start of the device, in bytes
   * @param value - unsigned, below 2 ** (8 * size)
   * @param size - 1, 2 or 4, never above {@link accessBytes}; not necessarily aligned
   */
  write(offset: number, value: number, size: number): void
}

/** A range of addresses and the device that answers there. */
export interface BusRange {
  /** The first address. */
  readonly base: number
  /** Length in bytes, at least 1. */
  readonly size: number
  /** Who answers there. */
  readonly device: BusDevice
  /** The device's offset at `base`, for devices that sit at several places; 0 unless given. */
  readonly offset?: number | undefined
  /** For messages; `device at 0x…` unless given. */
  readonly name?: string | undefined
}
