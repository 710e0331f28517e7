/** What a PC has by itself: a serial port, a clock, a keyboard controller that resets, and the ports of test guests. */
import {
  BOOT_TIMER_PORT,
  BOOT_TIMER_SIZE,
  BootTimer,
  type BufferingStream,
  type Bus,
  boundedOutput,
  CMOS_BASE,
  CMOS_PORTS,
  CmosRtc,
  type CmosRtcOptions,
  COM1_BASE,
  COM1_IRQ,
  EXIT_PORT,
  EXIT_PORT_SIZE,
  ExitPort,
  I8042,
  I8042_COMMAND_PORT,
  I8042_DATA_PORT,
  type I8042Options,
  type Interrupt,
  KEYBOARD_IRQ,
  RTC_IRQ,
  SERIAL_SIZE,
  Serial,
  type SerialOptions,
} from '@vmm/devices'
import { type AcpiDevice, MMIO_GAP_END } from '@vmm/linux-loader'
import type { GuestMemory } from '@vmm/vm-memory'
import type { MicroVmEnd } from './end.ts'
import type { LegacyState } from './state/microvm-state.ts'

/** Those that Linux has drivers for, for the guest's ACPI tables. */
export const LEGACY_ACPI_DEVICES: readonly AcpiDevice[] = [
  { hid: 'PNP0501', ports: [{ start: COM1_BASE, size: SERIAL_SIZE }], gsi: COM1_IRQ },
  { hid: 'PNP0B00', ports: [{ start: CMOS_BASE, size: CMOS_PORTS }], gsi: RTC_IRQ },
  {
    hid: 'PNP0303',
    ports: [
      { start: I8042_DATA_PORT, size: 1 },
      { start: I8042_COMMAND_PORT, size: 1 },
    ],
    gsi: KEYBOARD_IRQ,
  },
]

/** What the devices are part of. */
export interface LegacyHost {
  readonly pio: Bus
  readonly memory: GuestMemory
  readonly output: BufferingStream | undefined
  own<T extends { close(): void }>(owner: T): T
  /** An interrupt line of the ISA bus. */
  interrupt(irq: number): Interrupt
  stop(end: MicroVmEnd): void
  bootMarker(): void
}

/** What can be saved of them. */
export interface LegacyDevices {
  readonly serial: Serial
  state(): LegacyState
}

/**
 * Puts them on the bus.
 * @param saved what they were, where the VM is restored; checked as input from a stranger
 * @throws DevicesError ERR_DEVICE_STATE
 */
export function attachLegacyDevices(host: LegacyHost, saved?: LegacyState): LegacyDevices {
  const { pio, memory, output } = host
  const serialOptions: SerialOptions = {
    interrupt: host.interrupt(COM1_IRQ),
    flowControl: 'rts',
    output: output === undefined ? undefined : boundedOutput(output),
  }
  const serial = saved ? Serial.fromState(saved.serial, serialOptions) : new Serial(serialOptions)
  const rtcOptions: CmosRtcOptions = {
    interrupt: host.interrupt(RTC_IRQ),
    memory: {
      below4GiB: memory.regions[0]?.size ?? 0,
      above4GiB: Math.max(0, memory.lastAddress + 1 - MMIO_GAP_END),
    },
  }
  const rtc = host.own(saved ? CmosRtc.fromState(saved.rtc, rtcOptions) : new CmosRtc(rtcOptions))
  const i8042Options: I8042Options = {
    keyboardInterrupt: host.interrupt(KEYBOARD_IRQ),
    onReset: () => host.stop({ kind: 'reset', reason: 'the guest reset the machine' }),
  }
  const i8042 = saved ? I8042.fromState(saved.i8042, i8042Options) : new I8042(i8042Options)
  const exit = new ExitPort((value) =>
    host.stop({ kind: 'exit', reason: `the guest ended the VM with ${value}` }),
  )
  const bootTimer = new BootTimer(() => host.bootMarker())
  pio.register(
    { name: 'com1', base: COM1_BASE, size: SERIAL_SIZE, device: serial },
    { name: 'rtc', base: CMOS_BASE, size: CMOS_PORTS, device: rtc },
    ...i8042.ranges(),
    { name: 'exit', base: EXIT_PORT, size: EXIT_PORT_SIZE, device: exit },
    { name: 'boot timer', base: BOOT_TIMER_PORT, size: BOOT_TIMER_SIZE, device: bootTimer },
  )
  return {
    serial,
    state: () => ({ serial: serial.state(), i8042: i8042.state(), rtc: rtc.state() }),
  }
}
