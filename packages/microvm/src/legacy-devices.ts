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
  COM1_BASE,
  COM1_IRQ,
  EXIT_PORT,
  EXIT_PORT_SIZE,
  ExitPort,
  I8042,
  type Interrupt,
  KEYBOARD_IRQ,
  RTC_IRQ,
  SERIAL_SIZE,
  Serial,
} from '@vmm/devices'
import { MMIO_GAP_END } from '@vmm/linux-loader'
import type { GuestMemory } from '@vmm/vm-memory'
import type { MicroVmEnd } from './end.ts'

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

/** Puts them on the bus. */
export function attachLegacyDevices(host: LegacyHost): Serial {
  const { pio, memory, output } = host
  const serial = new Serial({
    interrupt: host.interrupt(COM1_IRQ),
    flowControl: 'rts',
    ...(output === undefined ? {} : { output: boundedOutput(output) }),
  })
  const above4GiB = Math.max(0, memory.lastAddress + 1 - MMIO_GAP_END)
  const below4GiB = memory.regions[0]?.size ?? 0
  const rtc = host.own(new CmosRtc({ interrupt: host.interrupt(RTC_IRQ), memory: { below4GiB, above4GiB } }))
  const i8042 = new I8042({
    keyboardInterrupt: host.interrupt(KEYBOARD_IRQ),
    onReset: () => host.stop({ kind: 'reset', reason: 'the guest reset the machine' }),
  })
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
  return serial
}
