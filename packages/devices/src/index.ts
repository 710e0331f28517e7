/**
 * `@vmm/devices`: the bus of a virtual machine and the emulated devices on it. Pure TypeScript: no KVM, no
 * native code. What a device needs of the host it takes as an interface.
 * @packageDocumentation
 */

// The bus

export {
  Bus,
  type BusEvents,
  type BusOptions,
  createMmioBus,
  createPioBus,
  MAX_ACCESS_BYTES,
  MMIO_SPACE_SIZE,
  PIO_SPACE_SIZE,
} from './bus/bus.ts'
export type { BusDevice, BusRange } from './bus/device.ts'
export { DevicesError, type DevicesErrorCode, type DevicesErrorDetails } from './error.ts'
export { type Clock, type Interrupt, MONOTONIC_CLOCK, type PendingCall, type Timers } from './host.ts'

// Serial port

export { connectInput, type InputConnection, type InputOptions } from './legacy/serial/input.ts'
export type { FlushScheduler, SerialOutput } from './legacy/serial/output.ts'
export { type BufferingStream, boundedOutput, OUTPUT_CHUNK_BYTES } from './legacy/serial/output.ts'
export { FIFO_SIZE as SERIAL_FIFO_SIZE } from './legacy/serial/receive-fifo.ts'
export {
  COM1_BASE,
  COM1_IRQ,
  COM2_BASE,
  COM2_IRQ,
  SERIAL_SIZE,
  Serial,
  type SerialEvents,
  type SerialOptions,
} from './legacy/serial/serial.ts'
export type { SerialState } from './legacy/serial/state.ts'

// Keyboard controller

export {
  I8042,
  I8042_COMMAND_PORT,
  I8042_COMMAND_RESET,
  I8042_DATA_PORT,
  type I8042Options,
  type I8042State,
  KEYBOARD_IRQ,
} from './legacy/i8042/i8042.ts'
export type { KeyboardState } from './legacy/i8042/keyboard.ts'

// Real-time clock

export {
  CMOS_BASE,
  CMOS_PORTS,
  type CmosMemory,
  CmosRtc,
  type CmosRtcOptions,
  RTC_IRQ,
} from './legacy/rtc/rtc.ts'
export { CMOS_SIZE, type CmosRtcState } from './legacy/rtc/state.ts'

// VM generation ID

export {
  type GenerationIdMemory,
  VM_GENERATION_ID_GSI,
  VM_GENERATION_ID_SIZE,
  VmGenerationId,
  type VmGenerationIdOptions,
  type VmGenerationIdState,
} from './vmgenid/vm-generation-id.ts'

// For test guests

export { BOOT_MARKER, BOOT_TIMER_PORT, BOOT_TIMER_SIZE, BootTimer } from './debug/boot-timer.ts'
export { EXIT_PORT, EXIT_PORT_SIZE, ExitPort } from './debug/exit-port.ts'
