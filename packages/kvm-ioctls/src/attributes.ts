/**
 * Attributes: values behind a group and a number, of devices and of vCPUs. api.rst, KVM_SET_DEVICE_ATTR.
 */
import { addressOf } from '@vmm/sys-util'
import { Handle, probe, request } from './handle.ts'
import { kvm_device_attr } from './structs/devices.ts'

const ENXIO = 6

/** An object with attributes. */
export class Attributed extends Handle {
  /** Whether there is such an attribute here. */
  hasAttribute(group: number, attribute: bigint): boolean {
    return probe(this, 'KVM_HAS_DEVICE_ATTR', encode(group, attribute), ENXIO)
  }

  /**
   * Sets an attribute.
   * @param value of the size that the attribute has, which KVM reads without knowing how long it is; default none
   */
  setAttribute(group: number, attribute: bigint, value?: NodeJS.ArrayBufferView): void {
    request(this, 'KVM_SET_DEVICE_ATTR', encode(group, attribute, value))
  }

  /**
   * Gets an attribute.
   * @param into a buffer of the size that the attribute has, which KVM fills without knowing how long it is
   */
  getAttribute(group: number, attribute: bigint, into: NodeJS.ArrayBufferView): void {
    request(this, 'KVM_GET_DEVICE_ATTR', encode(group, attribute, into))
  }
}

function encode(group: number, attr: bigint, value?: NodeJS.ArrayBufferView): Uint8Array<ArrayBuffer> {
  return kvm_device_attr.encode({ flags: 0, group, attr, addr: value === undefined ? 0n : addressOf(value) })
}
