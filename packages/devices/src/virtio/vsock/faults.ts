/** What a guest can do wrong with packets. Each is counted and reported; none stops the device. */
import type { VirtioFault } from '../device.ts'

const fault = (code: string, message: string): VirtioFault =>
  Object.freeze({ code, needsReset: false, message })

export const FAULT_HEADER: VirtioFault = fault(
  'ERR_VSOCK_HEADER',
  'a packet has no whole header in guest memory (5.10.6)',
)
export const FAULT_ADDRESS: VirtioFault = fault(
  'ERR_VSOCK_ADDRESS',
  "a packet is not from the guest's CID, or not to the host's (5.10.6)",
)
export const FAULT_TYPE: VirtioFault = fault(
  'ERR_VSOCK_TYPE',
  'a packet is of a socket type that was not negotiated (5.10.6)',
)
export const FAULT_LENGTH: VirtioFault = fault(
  'ERR_VSOCK_LENGTH',
  'a packet has less payload in guest memory than its header says (5.10.6)',
)
export const FAULT_OPERATION: VirtioFault = fault(
  'ERR_VSOCK_OPERATION',
  'a packet has an operation that is not known, or not possible at this point (5.10.6.4)',
)
export const FAULT_CREDIT: VirtioFault = fault(
  'ERR_VSOCK_CREDIT',
  'a packet has more payload than the host has room for (5.10.6.3)',
)
export const FAULT_BUFFER: VirtioFault = fault(
  'ERR_VSOCK_BUFFER',
  'a receive or event buffer has no room for what it is for (5.10.6, 5.10.6.7)',
)
