/** Ethernet addresses: read, written, made up. */
import { DevicesError } from '../../error.ts'
import { CRYPTO_RANDOM, type RandomSource } from '../rng/rng.ts'
import { MAC_SIZE } from './spec.ts'

/** In the first byte: an address of a group. */
const MULTICAST_BIT = 0b01
/** In the first byte: an address that no manufacturer gave out. */
const LOCAL_BIT = 0b10

/**
 * The six bytes of an address that a device can have.
 * @param text `02:00:00:00:00:01`, with colons or dashes, in any case
 * @throws DevicesError ERR_DEVICE_OPTION for what is no address, a multicast address (the broadcast address is one), and
 *   for all zeros
 */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(?:(:[0-9a-f]{2}){5}|(-[0-9a-f]{2}){5})$/i.test(text)) {
    refuse(`a MAC address is six bytes as in 02:00:00:00:00:01, got ${JSON.stringify(text)}`)
  }
  const mac = Uint8Array.from(text.split(/[:-]/), (byte) => Number.parseInt(byte, 16))
  checkMac(mac)
  return mac
}

/** An address as everybody writes it: `02:00:00:00:00:01`. */
export function formatMac(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':')
}

/** An address at random, locally administered, as is right for a device that no factory has made. */
export function randomMac(random: RandomSource = CRYPTO_RANDOM): Uint8Array {
  const mac = new Uint8Array(MAC_SIZE)
  random.fill(mac)
  mac[0] = ((mac[0] as number) & ~MULTICAST_BIT) | LOCAL_BIT
  return mac
}

/** Whether a device can have an address: not a group's, and not none. */
export function isDeviceMac(mac: ArrayLike<number>): boolean {
  if (mac.length !== MAC_SIZE || ((mac[0] as number) & MULTICAST_BIT) !== 0) return false
  return Array.prototype.some.call(mac, (byte) => byte !== 0)
}

/** @throws DevicesError ERR_DEVICE_OPTION unless a device can have the address */
export function checkMac(mac: Uint8Array): void {
  if (isDeviceMac(mac)) return
  const text = formatMac(mac)
  if (mac.length !== MAC_SIZE) refuse(`a MAC address has ${MAC_SIZE} bytes, got ${mac.length}`)
  refuse(`${text} is no address of a device: it is ${mac[0] === 0 ? 'all zeros' : 'a multicast address'}`)
}

function refuse(what: string): never {
  throw new DevicesError('ERR_DEVICE_OPTION', what)
}
