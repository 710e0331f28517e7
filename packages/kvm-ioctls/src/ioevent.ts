/**
 * Guest writes that ring an eventfd instead of ending KVM_RUN: the argument of KVM_IOEVENTFD.
 */
import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IOEVENTFD_FLAG_DEASSIGN,
  KVM_IOEVENTFD_FLAG_PIO,
} from './constants/flags.ts'
import { kvm_ioeventfd } from './structs/vm.ts'

/** A doorbell: an address, and which writes to it count. */
export interface IoEvent {
  /** Where the address is: a port, or guest-physical memory without a slot. */
  readonly space: 'pio' | 'mmio'
  readonly address: number
  /**
   * Bytes of the writes that count: 1, 2, 4 or 8; 0, the default, for any length, which needs
   * KVM_CAP_IOEVENTFD_ANY_LENGTH and excludes `datamatch`.
   */
  readonly length?: 0 | 1 | 2 | 4 | 8
  /** Only writes of this value count; default every value. */
  readonly datamatch?: number | bigint
}

/** The kernel's form. */
export function encodeIoEvent(fd: number, event: IoEvent, assign: boolean): Uint8Array<ArrayBuffer> {
  const { space, address, length = 0, datamatch } = event
  const flags =
    (space === 'pio' ? KVM_IOEVENTFD_FLAG_PIO : 0) |
    (datamatch === undefined ? 0 : KVM_IOEVENTFD_FLAG_DATAMATCH) |
    (assign ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN)
  return kvm_ioeventfd.encode({ datamatch: BigInt(datamatch ?? 0), addr: address, len: length, fd, flags })
}
