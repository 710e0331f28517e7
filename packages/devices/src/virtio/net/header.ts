/**
 * Whether a frame of the guest's is what it says: virtio 1.2, 5.1.6.2. Hosts believe headers (where a checksum goes, how
 * long packets shall be), so one that cannot be right goes nowhere.
 */
import type { VirtioFault } from '../device.ts'
import { featureBit } from '../spec.ts'
import type { NetFrame } from './frame.ts'
import * as spec from './spec.ts'

const CSUM_BIT = featureBit(spec.VIRTIO_NET_F_CSUM)
const TSO4_BIT = featureBit(spec.VIRTIO_NET_F_HOST_TSO4)
const TSO6_BIT = featureBit(spec.VIRTIO_NET_F_HOST_TSO6)
const ECN_BIT = featureBit(spec.VIRTIO_NET_F_HOST_ECN)

const fault = (code: string, message: string): VirtioFault =>
  Object.freeze({ code, needsReset: false, message })

/** A frame that is too short to be one, or too long. */
export const SIZE_FAULT: VirtioFault = fault(
  'ERR_NET_FRAME_SIZE',
  'a frame is shorter than its header, or longer than any can be (5.1.6.2)',
)
const CHECKSUM = fault('ERR_NET_CHECKSUM', 'a checksum is to be completed that is not in the frame (5.1.6.2)')
const OFFLOAD = fault('ERR_NET_OFFLOAD', 'a frame asks for an offload that was not negotiated (5.1.6.2)')
const SEGMENTS = fault(
  'ERR_NET_SEGMENTS',
  'a frame is to be cut into packets of no size, or by half (5.1.6.2)',
)

/** What is negotiated. */
export interface FrameRules {
  /** Features 0 to 31. */
  readonly features: number
  /** The longest plain frame, in bytes. */
  readonly frameBytesMax: number
}

/**
 * Judges a frame, and clears flags that mean nothing here.
 * @returns what is wrong with it, or undefined
 */
export function frameFault(
  frame: NetFrame,
  { features, frameBytesMax }: FrameRules,
): VirtioFault | undefined {
  const { header, length } = frame
  const gso = header[spec.HDR_GSO_TYPE_OFFSET] as number
  const needsChecksum = (frame.flags & spec.VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0
  // Bits that a device does not know it must ignore (5.1.6.2.2).
  header[spec.HDR_FLAGS_OFFSET] = needsChecksum ? spec.VIRTIO_NET_HDR_F_NEEDS_CSUM : 0
  if (length < spec.ETHERNET_HEADER_SIZE || length > spec.FRAME_BYTES_MAX) return SIZE_FAULT
  if (needsChecksum) {
    if ((features & CSUM_BIT) === 0) return OFFLOAD
    const { csumStart, csumOffset } = frame
    if (csumStart < spec.ETHERNET_HEADER_SIZE || csumStart + csumOffset + 2 > length) return CHECKSUM
  }
  if (gso === spec.VIRTIO_NET_HDR_GSO_NONE) return length > frameBytesMax ? SIZE_FAULT : undefined
  if (!isNegotiated(gso, features)) return OFFLOAD
  return needsChecksum && frame.gsoSize > 0 ? undefined : SEGMENTS
}

/** Whether the features allow for a `gso_type` other than none. */
function isNegotiated(gso: number, features: number): boolean {
  if ((gso & spec.VIRTIO_NET_HDR_GSO_ECN) !== 0 && (features & ECN_BIT) === 0) return false
  switch (gso & ~spec.VIRTIO_NET_HDR_GSO_ECN) {
    case spec.VIRTIO_NET_HDR_GSO_TCPV4:
      return (features & TSO4_BIT) !== 0
    case spec.VIRTIO_NET_HDR_GSO_TCPV6:
      return (features & TSO6_BIT) !== 0
    default:
      return false
  }
}
