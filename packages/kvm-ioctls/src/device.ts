/**
 * A device inside KVM, by KVM_CREATE_DEVICE: on x86-64 that is the VFIO device alone.
 */
import { Attributed } from './attributes.ts'

/** A device: all it has are attributes. */
export class Device extends Attributed {
  private constructor(fd: number) {
    super(fd)
  }

  /** Takes over an open descriptor of a device. */
  static fromFd(fd: number): Device {
    return new Device(fd)
  }
}
