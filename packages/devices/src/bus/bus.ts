/**
 * An address space with devices in it: port I/O or memory-mapped I/O, one instance each. It knows
 * nothing of KVM: a vCPU loop hands it the address and the bytes of an exit.
 *
 * An access costs no allocation, no closure and no lock. The ranges are an immutable sorted list
 * that `register` and `deregister` replace, so a device may do either from inside its own access:
 * the access under way goes on with the list that it began with.
 */
import { DevicesError, hex } from '../error.ts'
import type { BusDevice, BusRange } from './device.ts'

/** The x86 port space: 65,536 ports. */
export const PIO_SPACE_SIZE = 0x10000
/** The x86 physical address space: 52 bits at most. */
export const MMIO_SPACE_SIZE: number = 2 ** 52
/** The longest single access, in bytes. KVM hands out longer operands in pieces. */
export const MAX_ACCESS_BYTES = 8

/**
 * What a bus reports. Each is optional; those of unmapped accesses are called as often as the guest likes.
 */
export interface BusEvents {
  /** A read that no device claims; the guest got ones. */
  unmappedRead?(address: number, size: number): void
  /** A write that no device claims; it was dropped. */
  unmappedWrite?(address: number, size: number): void
  /**
   * A device's own code threw: the guest's read gives ones, its write may have been done in part. The
   * VM goes on if this returns. Without it the error is thrown from `read` or `write`, and ends the vCPU
   * loop: a device is host code, and its bug should not pass unnoticed.
   */
  deviceFailed?(error: DevicesError): void
}

/** Options of {@link Bus}. */
export interface BusOptions {
  /** For messages. */
  readonly name: string
  /** Addresses go from 0 to `size` - 1; at most 2 ** 53 - 1. */
  readonly size: number
  /** Told of unmapped accesses and devices that fail; default nobody. */
  readonly events?: BusEvents | undefined
}

/** The port I/O bus of a PC. */
export function createPioBus(events?: BusEvents): Bus {
  return new Bus({ name: 'pio', size: PIO_SPACE_SIZE, events })
}

/** The memory-mapped I/O bus of a PC. Guest memory is not on it: KVM serves that without an exit. */
export function createMmioBus(events?: BusEvents): Bus {
  return new Bus({ name: 'mmio', size: MMIO_SPACE_SIZE, events })
}

/**
 * Maps disjoint address ranges to devices.
 *
 * @example
 * ```ts
 * const pio = createPioBus()
 * pio.register({ base: 0x600, size: 1, device: { read: () => 42, write() {} } })
 * const data = new DataView(new ArrayBuffer(1))
 * pio.read(0x600, data) // data.getUint8(0) is 42
 * ```
 */
export class Bus {
  /** For messages. */
  readonly name: string
  /** The size of the address space. */
  readonly size: number
  readonly #events: BusEvents
  #map: RangeMap = new RangeMap([])

  constructor(options: BusOptions) {
    this.name = options.name
    this.size = options.size
    this.#events = options.events ?? {}
  }

  /** Every registered range, by ascending address. The list does not change any more. */
  get ranges(): readonly BusRange[] {
    return this.#map.ranges
  }

  /**
   * Adds ranges, all of them or, when one is refused, none.
   *
   * @throws {@link DevicesError} `ERR_BUS_RANGE_INVALID` when a range is empty or leaves the address space
   * @throws {@link DevicesError} `ERR_BUS_RANGE_OVERLAP` when two would share an address
   */
  register(...ranges: readonly BusRange[]): void {
    const next = [...this.#map.ranges, ...ranges.map((range) => this.#mapped(range))]
    next.sort((a, b) => a.base - b.base)
    let previous: MappedRange | undefined
    for (const range of next) {
      if (previous !== undefined && range.base <= previous.last) throw overlap(this.name, previous, range)
      previous = range
    }
    this.#map = new RangeMap(next)
  }

  /**
   * Removes the range that starts at `base`, and returns its device.
   *
   * @throws {@link DevicesError} `ERR_BUS_RANGE_UNKNOWN` when none does
   */
  deregister(base: number): BusDevice {
    const { ranges } = this.#map
    const range = ranges.find((candidate) => candidate.base === base)
    if (range === undefined) {
      throw new DevicesError('ERR_BUS_RANGE_UNKNOWN', `${this.name}: no range starts at ${hex(base)}`, {
        address: base,
      })
    }
    this.#map = new RangeMap(ranges.filter((candidate) => candidate !== range))
    return range.device
  }

  /** Removes every range of a device, and returns how many there were. */
  deregisterDevice(device: BusDevice): number {
    const { ranges } = this.#map
    const rest = ranges.filter((range) => range.device !== device)
    this.#map = new RangeMap(rest)
    return ranges.length - rest.length
  }

  /** The range that answers at `address`, or undefined. */
  find(address: number): BusRange | undefined {
    return this.#map.find(address)
  }

  /**
   * The first registered range that shares an address with `size` bytes from `base`, or undefined. It
   * tells beforehand what {@link register} would refuse, for moves that a guest asks for.
   */
  findOverlap(base: number, size: number): BusRange | undefined {
    return this.#map.ranges.find((range) => base <= range.last && base + size > range.base)
  }

  /**
   * A guest read: the device's registers go to `data` as little-endian bytes. Ones, when no range holds all
   * of it.
   *
   * @param address - guest address or port
   * @param data - where the bytes go, such as a view of a vCPU's `kvm_run`
   * @param at - where in `data`, in bytes; its start unless given
   * @param size - 1 to 8 bytes; the rest of `data` unless given
   * @throws {@link DevicesError} `ERR_BUS_ACCESS` for another size, or a window outside `data`
   * @throws {@link DevicesError} `ERR_DEVICE_FAILED`, unless {@link BusEvents.deviceFailed} is given
   */
  read(address: number, data: DataView, at: number = 0, size: number = data.byteLength - at): void {
    this.#check(address, data, at, size)
    const range = this.#map.findWhole(address, size)
    if (range === undefined) {
      fillOnes(data, at, size)
      this.#events.unmappedRead?.(address, size)
      return
    }
    const { device, accessBytes } = range
    const offset = address - range.base + range.offset
    try {
      for (let done = 0; done < size; ) {
        const piece = pieceSize(size - done, accessBytes)
        const value = device.read(offset + done, piece)
        if (piece === 1) data.setUint8(at + done, value)
        else if (piece === 2) data.setUint16(at + done, value, true)
        else data.setUint32(at + done, value, true)
        done += piece
      }
    } catch (cause) {
      fillOnes(data, at, size)
      this.#deviceFailed('read', range, address, size, cause)
    }
  }

  /**
   * A guest write: little-endian bytes of `data` go to the device's registers. Dropped, when no range
   * holds all of it.
   *
   * @param address - guest address or port
   * @param data - where the bytes are, such as a view of a vCPU's `kvm_run`
   * @param at - where in `data`, in bytes; its start unless given
   * @param size - 1 to 8 bytes; the rest of `data` unless given
   * @throws {@link DevicesError} `ERR_BUS_ACCESS` for another size, or a window outside `data`
   * @throws {@link DevicesError} `ERR_DEVICE_FAILED`, unless {@link BusEvents.deviceFailed} is given
   */
  write(address: number, data: DataView, at: number = 0, size: number = data.byteLength - at): void {
    this.#check(address, data, at, size)
    const range = this.#map.findWhole(address, size)
    if (range === undefined) {
      this.#events.unmappedWrite?.(address, size)
      return
    }
    const { device, accessBytes } = range
    const offset = address - range.base + range.offset
    try {
      for (let done = 0; done < size; ) {
        const piece = pieceSize(size - done, accessBytes)
        if (piece === 1) device.write(offset + done, data.getUint8(at + done), 1)
        else if (piece === 2) device.write(offset + done, data.getUint16(at + done, true), 2)
        else device.write(offset + done, data.getUint32(at + done, true), 4)
        done += piece
      }
    } catch (cause) {
      this.#deviceFailed('write', range, address, size, cause)
    }
  }

  #check(address: number, data: DataView, at: number, size: number): void {
    if ((size | 0) !== size || size < 1 || size > MAX_ACCESS_BYTES) {
      const message = `${this.name}: 1 to ${MAX_ACCESS_BYTES} bytes an access, got ${size} at ${hex(address)}`
      throw new DevicesError('ERR_BUS_ACCESS', message, { address, size })
    }
    if ((at | 0) !== at || at < 0 || at + size > data.byteLength) {
      const message = `${this.name}: ${size} bytes at ${at} are outside a window of ${data.byteLength}`
      throw new DevicesError('ERR_BUS_ACCESS', message, { address, size })
    }
  }

  #mapped(range: BusRange): MappedRange {
    const { base, size, offset = 0 } = range
    const valid = isAddress(base) && isAddress(offset) && Number.isSafeInteger(size) && size > 0
    if (!valid || base + size > this.size) {
      const where = `${size} bytes at ${hex(base)}`
      const message = `${this.name}: a range of ${where} is empty or outside 0 to ${hex(this.size - 1)}`
      throw new DevicesError('ERR_BUS_RANGE_INVALID', message, { address: base, size, device: range.name })
    }
    return new MappedRange(base, size, offset, range.device, range.name ?? `device at ${hex(base)}`)
  }

  #deviceFailed(verb: string, range: MappedRange, address: number, size: number, cause: unknown): void {
    const what = `${verb} ${size} bytes at ${hex(address)}`
    const message = `${this.name}: ${range.name} failed to ${what}: ${String(cause)}`
    const error = new DevicesError('ERR_DEVICE_FAILED', message, { address, size, device: range.name, cause })
    if (this.#events.deviceFailed === undefined) throw error
    this.#events.deviceFailed(error)
  }
}

class MappedRange implements BusRange {
  readonly base: number
  readonly last: number
  readonly size: number
  readonly offset: number
  readonly accessBytes: number
  readonly device: BusDevice
  readonly name: string

  constructor(base: number, size: number, offset: number, device: BusDevice, name: string) {
    this.base = base
    this.last = base + size - 1
    this.size = size
    this.offset = offset
    this.accessBytes = device.accessBytes ?? 4
    this.device = device
    this.name = name
    Object.freeze(this)
  }
}

/** Disjoint ranges by ascending base. Only the memory of the last hit changes. */
class RangeMap {
  readonly ranges: readonly MappedRange[]
  #recent: MappedRange | undefined

  constructor(ranges: MappedRange[]) {
    this.ranges = Object.freeze(ranges)
    this.#recent = ranges[0]
  }

  find(address: number): MappedRange | undefined {
    const recent = this.#recent
    // A console or a disk is hit many times in a row.
    if (recent !== undefined && address >= recent.base && address <= recent.last) return recent
    let low = 0
    let high = this.ranges.length - 1
    while (low <= high) {
      const middle = (low + high) >>> 1
      const range = this.ranges[middle]
      if (range === undefined) return undefined
      if (address < range.base) high = middle - 1
      else if (address > range.last) low = middle + 1
      else {
        this.#recent = range
        return range
      }
    }
    return undefined
  }

  /** The range that holds every byte of an access. */
  findWhole(address: number, size: number): MappedRange | undefined {
    const range = this.find(address)
    return range !== undefined && address + size - 1 <= range.last ? range : undefined
  }
}

/** The next piece of an access: the largest power of two that is left and that the device takes. */
function pieceSize(left: number, accessBytes: number): 1 | 2 | 4 {
  if (left >= 4 && accessBytes === 4) return 4
  return left >= 2 && accessBytes >= 2 ? 2 : 1
}

function fillOnes(data: DataView, at: number, size: number): void {
  for (let i = 0; i < size; i++) data.setUint8(at + i, 0xff)
}

function isAddress(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

function overlap(bus: string, a: MappedRange, b: MappedRange): DevicesError {
  const text = (range: MappedRange): string => `${range.name} (${hex(range.base)} to ${hex(range.last)})`
  const message = `${bus}: ${text(b)} overlaps ${text(a)}`
  return new DevicesError('ERR_BUS_RANGE_OVERLAP', message, { address: b.base, size: b.size, device: b.name })
}
