/**
 * What a port has to tell the driver (virtio 1.2, 5.3.6.2). Not a queue of messages, which a driver could let grow, but what
 * is still to be told: one bit for each kind of message, sent in the order of the bits.
 */
import type { Writer } from '@vmm/virtio-queue'
import type { PortSettings } from './options.ts'
import * as spec from './spec.ts'

/** There is a port. */
export const TELL_ADD = 0b00_0001
/** It is a console. */
export const TELL_CONSOLE = 0b00_0010
export const TELL_NAME = 0b00_0100
export const TELL_SIZE = 0b00_1000
/** The host has closed it. Before TELL_OPEN: who opens it again is somebody else. */
export const TELL_CLOSED = 0b01_0000
/** The host has opened it. */
export const TELL_OPEN = 0b10_0000
export const TELL_MASK = 0b11_1111

/** The first thing to tell of some. */
export function firstOf(pending: number): number {
  return pending & -pending
}

/** What the messages of a port are made of. */
export interface ControlSource {
  readonly id: number
  readonly settings: PortSettings
  /** The name in UTF-8. */
  readonly nameBytes: Uint8Array
  readonly columns: number
  readonly rows: number
}

/** In bytes. */
export function messageSize(source: ControlSource, what: number): number {
  if (what === TELL_NAME) return spec.CONTROL_SIZE + source.nameBytes.length
  return what === TELL_SIZE ? spec.CONTROL_SIZE + spec.RESIZE_SIZE : spec.CONTROL_SIZE
}

/** @returns false where not all of it is in guest memory */
export function writeMessage(writer: Writer, source: ControlSource, what: number): boolean {
  writer.writeUint32(source.id)
  writer.writeUint16(eventOf(what))
  writer.writeUint16(what === TELL_CLOSED ? 0 : 1)
  if (what === TELL_NAME) writer.writeFull(source.nameBytes)
  if (what === TELL_SIZE) {
    // In the order of the specification, as Linux has it since 6.15 and stable releases since; before, it took the rows first.
    writer.writeUint16(source.columns)
    writer.writeUint16(source.rows)
  }
  return !writer.failed
}

function eventOf(what: number): number {
  switch (what) {
    case TELL_ADD:
      return spec.VIRTIO_CONSOLE_PORT_ADD
    case TELL_CONSOLE:
      return spec.VIRTIO_CONSOLE_CONSOLE_PORT
    case TELL_NAME:
      return spec.VIRTIO_CONSOLE_PORT_NAME
    case TELL_SIZE:
      return spec.VIRTIO_CONSOLE_RESIZE
    default:
      return spec.VIRTIO_CONSOLE_PORT_OPEN
  }
}
