/**
 * Virtio devices on MMIO, wired to KVM so that the guest's data path leads to no exit: register pages are read-only
 * memory, doorbells are ioeventfds, interrupts are irqfds.
 */
import type { Bus } from '@vmm/devices'
import {
  type MmioDoorbell,
  type MmioSlot,
  MmioSlots,
  MmioTransport,
  type MmioTransportOptions,
  type MmioTransportState,
  VIRTIO_MMIO_SIZE,
  type VirtioDevice,
  type VirtioEvents,
} from '@vmm/devices/virtio'
import type { EventManager } from '@vmm/event-manager'
import type { Vm } from '@vmm/kvm-ioctls'
import type { AcpiDevice, Cmdline } from '@vmm/linux-loader'
import { EventFd } from '@vmm/sys-util'
import type { GuestMemory } from '@vmm/vm-memory'
import { MicroVmError } from './error.ts'
import type { RegisterWindow } from './register-window.ts'
import { allSettled } from './settle.ts'

/** Interrupts of a PC's ISA bus. */
const ISA_IRQS = 16
/** How ACPI calls a virtio-mmio device. */
const VIRTIO_MMIO_HID = 'LNRO0005'

/** What the bus is part of. */
export interface VirtioHost {
  /** Takes irqfds and ioeventfds. */
  readonly vm: Vm
  /** Where the queues are. */
  readonly memory: GuestMemory
  /** Where register writes come from. */
  readonly mmio: Bus
  /** Watches the doorbells. */
  readonly events: EventManager
  /** Where the guest reads registers without an exit; undefined where it cannot. */
  readonly registers: RegisterWindow | undefined
  /** Takes what is to be closed when the VM is. */
  own<T extends { close(): void }>(owner: T): T
}

/** The virtio devices of a VM. */
export class VirtioBus {
  readonly #host: VirtioHost
  readonly #slots = new MmioSlots()
  readonly #places: MmioSlot[] = []
  readonly #transports: MmioTransport[] = []
  /** Of a VM that is restored: what its devices were, in order. */
  readonly #saved: readonly MmioTransportState[] | undefined

  /** @param saved what {@link state} gave, for the devices that are about to be attached again */
  constructor(host: VirtioHost, saved?: readonly MmioTransportState[]) {
    this.#host = host
    this.#saved = saved
  }

  /** The interrupts that no PC knows by itself: for the MP table. */
  get interrupts(): readonly { readonly irq: number }[] {
    return this.#places.filter(({ gsi }) => gsi >= ISA_IRQS).map(({ gsi }) => ({ irq: gsi }))
  }

  /**
   * Puts a device on the bus, before the guest runs.
   * @param events gets to know what goes wrong with it
   * @throws DevicesError ERR_DEVICE_SLOTS for a 17th device, ERR_DEVICE_OPTION for one that is attached already, ERR_DEVICE_STATE where
   *   another device was saved in this place
   */
  attach(device: VirtioDevice, events?: VirtioEvents): void {
    const { vm, memory, mmio, registers, own } = this.#host
    const place = this.#slots.take()
    const interrupt = own(new EventFd())
    vm.registerIrqfd(interrupt.fd, place.gsi)
    const transport = this.#transport({
      device,
      memory,
      events,
      interrupt: { trigger: () => interrupt.write() },
      page: registers?.page(place.address) ?? new Uint8Array(VIRTIO_MMIO_SIZE),
      // Who reads the status by an exit pays for the acknowledgement's exit as well.
      ackDoorbell: registers !== undefined,
    })
    mmio.register({ name: 'virtio-mmio', base: place.address, size: place.size, device: transport })
    for (const bell of transport.doorbells) {
      const rung = this.#doorbell(place, bell)
      own(this.#host.events.onEventFd(rung, () => transport.notify(bell.value)))
    }
    // Nobody listens: see MmioTransport.ackDoorbell.
    if (transport.ackDoorbell !== undefined) this.#doorbell(place, transport.ackDoorbell)
    this.#places.push(place)
    this.#transports.push(transport)
    // Before the register page and guest memory go.
    own(transport)
  }

  /**
   * Takes no more requests, and settles when those under way have ended. While no vCPU runs.
   * @throws what a device throws, when all others have come to rest
   */
  async pause(): Promise<void> {
    await allSettled(this.#transports.map((transport) => transport.pause()))
  }

  /** Goes on after {@link pause}, or after the VM was restored. */
  resume(): void {
    for (const transport of this.#transports) transport.resume()
  }

  /** The devices with their registers and queues, in order. While they are paused. */
  state(): MmioTransportState[] {
    return this.#transports.map((transport) => transport.state())
  }

  /** @throws MicroVmError ERR_MICROVM_STATE where fewer devices are there than were saved */
  checkComplete(saved: number): void {
    if (this.#transports.length === saved) return
    throw new MicroVmError(
      'ERR_MICROVM_STATE',
      `the VM was saved with ${saved} virtio devices: there are ${this.#transports.length} now`,
    )
  }

  #transport(options: MmioTransportOptions): MmioTransport {
    if (this.#saved === undefined) return new MmioTransport(options)
    const state = this.#saved[this.#transports.length]
    if (state !== undefined) return MmioTransport.fromState(state, options)
    throw new MicroVmError(
      'ERR_MICROVM_STATE',
      `the VM was saved with ${this.#saved.length} virtio devices: there are more now`,
    )
  }

  /** Tells the guest of the devices, on its command line. */
  announce(cmdline: Cmdline): void {
    for (const { size, address, gsi } of this.#places) cmdline.virtioMmioDevice(size, address, gsi)
  }

  /** The devices for the guest's ACPI tables. */
  get acpiDevices(): readonly AcpiDevice[] {
    return this.#places.map(({ address, size, gsi }) => ({
      hid: VIRTIO_MMIO_HID,
      memory: { start: address, size },
      gsi,
    }))
  }

  #doorbell(place: MmioSlot, { offset, size, value }: MmioDoorbell): EventFd {
    const { vm, own } = this.#host
    const eventFd = own(new EventFd())
    vm.registerIoEvent(eventFd.fd, {
      space: 'mmio',
      address: place.address + offset,
      length: size,
      datamatch: value,
    })
    return eventFd
  }
}
