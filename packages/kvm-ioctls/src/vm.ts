/**
 * One virtual machine: its memory, its interrupts, and the objects made for it.
 * Documentation/virt/kvm/api.rst, "vm ioctls".
 */
import { addressOf, OwnedFd, SystemError } from '@vmm/sys-util'
import {
  KVM_CAP_DIRTY_LOG_RING,
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
  KVM_CAP_XSAVE2,
} from './constants/capabilities.ts'
import {
  KVM_CREATE_DEVICE_TEST,
  KVM_HYPERV_EVENTFD_DEASSIGN,
  KVM_IRQCHIP_IOAPIC,
  type KVM_IRQCHIP_PIC_MASTER,
  type KVM_IRQCHIP_PIC_SLAVE,
  KVM_IRQFD_FLAG_DEASSIGN,
  KVM_IRQFD_FLAG_RESAMPLE,
  KVM_MSI_VALID_DEVID,
} from './constants/flags.ts'
import { Device } from './device.ts'
import { DirtyBitmap } from './dirty-bitmap.ts'
import { type EnableCapOptions, encodeEnableCap } from './enable-cap.ts'
import { KvmError, outOfRange } from './errors.ts'
import { encodeGsiRouting, type GsiRoute, type Msi } from './gsi-routing.ts'
import { getStruct, Handle, probe, request, requestRaw, setStruct } from './handle.ts'
import { encodeIoEvent, type IoEvent } from './ioevent.ts'
import type { Struct } from './layout/struct.ts'
import { encodeMsrFilter, type MsrFilter } from './msr-filter.ts'
import { encodePmuEventFilter, type PmuEventFilter } from './pmu-filter.ts'
import * as devices from './structs/devices.ts'
import * as structs from './structs/vm.ts'
import { Vcpu, type VcpuOptions } from './vcpu.ts'

/** A slot of guest memory: a part of guest-physical memory, and the host memory behind it. */
export interface MemoryRegion {
  /** 0 to {@link Kvm.memorySlots} - 1; with several address spaces, bits 31:16 say which. */
  readonly slot: number
  /** `KVM_MEM_*`; default 0. */
  readonly flags?: number
  /** A multiple of the page size. */
  readonly guestAddress: number
  /** Bytes, a multiple of the page size; 0 takes the slot away. */
  readonly size: number
  /**
   * Where the memory is mapped in this process. The guest reaches it from now on: it has to stay mapped until the
   * slot or the VM has gone.
   */
  readonly hostAddress: bigint
}

/** A slot that takes private memory from a guest_memfd. */
export interface MemoryRegion2 extends MemoryRegion {
  /** The descriptor of a guest_memfd, with the flag `KVM_MEM_GUEST_MEMFD`; default none. */
  readonly guestMemfd?: number
  /** Where in it the slot begins, in bytes, a multiple of the page size; default 0. */
  readonly guestMemfdOffset?: number
}

/** Guest addresses whose writes KVM keeps in a ring instead of ending KVM_RUN. */
export interface CoalescedZone {
  readonly space: 'pio' | 'mmio'
  readonly address: number
  /** Bytes. */
  readonly size: number
}

/** One virtual machine. Its descriptor may be used from any thread of the process that made it, and by no other. */
export class Vm extends Handle {
  readonly #vcpuMmapSize: number
  readonly #children = new Set<Handle>()
  readonly #slotSizes = new Map<number, number>()
  #dirtyRingSize = 0
  // Interrupts are raised all the time: these two requests have their arguments made once.
  readonly #irqLevel = structs.kvm_irq_level.allocate()
  readonly #msi = structs.kvm_msi.allocate()

  private constructor(fd: number, vcpuMmapSize: number) {
    super(fd)
    this.#vcpuMmapSize = vcpuMmapSize
  }

  /**
   * Takes over an open descriptor of a VM.
   * @param kvm what the VM is of: knows how large the mapping of a vCPU is
   */
  static fromFd(fd: number, kvm: { readonly vcpuMmapSize: number }): Vm {
    return new Vm(fd, kvm.vcpuMmapSize)
  }

  /**
   * Closes the vCPUs and devices made by this object, in the reverse order of their making, then the VM. Idempotent.
   * Host memory behind the slots may be unmapped afterwards.
   * @throws KvmError ERR_KVM_VCPU_RUNNING where a vCPU is in KVM_RUN: {@link stop} then. Nothing has been closed.
   */
  override close(): void {
    if (this.closed) return
    const children = [...this.#children].reverse()
    const running = children.find((child) => child instanceof Vcpu && child.running)
    if (running !== undefined) {
      throw new KvmError('ERR_KVM_VCPU_RUNNING', 'a vCPU is in KVM_RUN, the VM cannot be closed')
    }
    for (const child of children) child.close()
    this.#children.clear()
    super.close()
  }

  /** Stops the vCPUs made by this object, and closes. */
  async stop(): Promise<void> {
    const vcpus = [...this.#children].filter((child) => child instanceof Vcpu)
    await Promise.all(vcpus.map((vcpu) => vcpu.stop()))
    this.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  /** As {@link Kvm.checkExtension}, for what differs by VM. */
  checkExtension(capability: number): number {
    return request(this, 'KVM_CHECK_EXTENSION', capability)
  }

  /**
   * Switches a capability on, for the VM.
   * @param capability `KVM_CAP_*`
   * @throws SystemError EINVAL where KVM does not have it, or not this way
   */
  enableCap(capability: number, options: EnableCapOptions = {}): void {
    request(this, 'KVM_ENABLE_CAP', encodeEnableCap(capability, options))
    if (capability === KVM_CAP_DIRTY_LOG_RING || capability === KVM_CAP_DIRTY_LOG_RING_ACQ_REL) {
      this.#dirtyRingSize = Number(options.args?.[0] ?? 0)
    }
  }

  // Memory

  /**
   * Makes, moves, changes or, with size 0, takes away a memory slot.
   * @throws SystemError EEXIST where it overlaps another, EINVAL for what does not lie on pages
   */
  setUserMemoryRegion(region: MemoryRegion): void {
    setStruct(this, 'KVM_SET_USER_MEMORY_REGION', structs.kvm_userspace_memory_region, encodeRegion(region))
    this.#slotSizes.set(region.slot, region.size)
  }

  /** As {@link setUserMemoryRegion}, with private memory. Needs KVM_CAP_USER_MEMORY2. */
  setUserMemoryRegion2(region: MemoryRegion2): void {
    setStruct(this, 'KVM_SET_USER_MEMORY_REGION2', structs.kvm_userspace_memory_region2, {
      ...encodeRegion(region),
      guest_memfd: region.guestMemfd ?? 0,
      guest_memfd_offset: region.guestMemfdOffset ?? 0,
    })
    this.#slotSizes.set(region.slot, region.size)
  }

  /**
   * A file of memory that this VM alone can map into its guest. Needs KVM_CAP_GUEST_MEMFD.
   * @param size in bytes
   */
  createGuestMemfd(size: number, flags = 0n): OwnedFd {
    return new OwnedFd(
      setStruct(this, 'KVM_CREATE_GUEST_MEMFD', structs.kvm_create_guest_memfd, { size, flags }),
    )
  }

  /**
   * Says which guest memory is private. Needs KVM_CAP_MEMORY_ATTRIBUTES.
   * @param attributes `KVM_MEMORY_ATTRIBUTE_*`
   */
  setMemoryAttributes(address: number, size: number, attributes: bigint): void {
    const value = { address, size, attributes, flags: 0n }
    setStruct(this, 'KVM_SET_MEMORY_ATTRIBUTES', structs.kvm_memory_attributes, value)
  }

  /**
   * Takes the pages of a slot that were written since the last time. The slot needs `KVM_MEM_LOG_DIRTY_PAGES`.
   * @param into to be filled; default a new one
   * @throws KvmError ERR_KVM_OUT_OF_RANGE where it has room for fewer pages than the slot
   */
  getDirtyLog(slot: number, into?: DirtyBitmap): DirtyBitmap {
    const size = this.#slotSizes.get(slot) ?? 0
    const bitmap = into ?? new DirtyBitmap(size)
    // KVM writes as many bits as the slot has pages, whatever there is room for.
    const needed = Math.ceil(size / PAGE_SIZE)
    if (bitmap.pages < needed)
      throw outOfRange(`dirty log of slot ${slot}`, `${needed} pages or more`, bitmap.pages)
    const value = { slot, dirty_bitmap: bitmap.address }
    setStruct(this, 'KVM_GET_DIRTY_LOG', structs.kvm_dirty_log, value)
    return bitmap
  }

  /**
   * Has KVM watch pages again. Needs KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 enabled, with which {@link getDirtyLog} does
   * not do so itself.
   * @param bitmap which pages; its first bit is `firstPage`
   * @param firstPage a multiple of 64; default 0
   * @param pages how many; default all of the bitmap
   * @throws KvmError ERR_KVM_OUT_OF_RANGE for more pages than the bitmap has
   */
  clearDirtyLog(slot: number, bitmap: DirtyBitmap, firstPage = 0, pages: number = bitmap.pages): void {
    if (pages > bitmap.pages) throw outOfRange('clearDirtyLog', `up to ${bitmap.pages} pages`, pages)
    setStruct(this, 'KVM_CLEAR_DIRTY_LOG', structs.kvm_clear_dirty_log, {
      slot,
      num_pages: pages,
      first_page: firstPage,
      dirty_bitmap: bitmap.address,
    })
  }

  /** Has KVM watch again the pages that were collected from all vCPUs' rings; returns how many. */
  resetDirtyRings(): number {
    return request(this, 'KVM_RESET_DIRTY_RINGS')
  }

  // What x86 needs before its vCPUs

  /** Where three pages are that Intel's VMX needs in the guest's memory: below 4 GiB, and in no slot. */
  setTssAddress(address: number): void {
    request(this, 'KVM_SET_TSS_ADDR', address)
  }

  /**
   * Where the page is that Intel's VMX needs for real mode; as {@link setTssAddress}. Default 0xfffbc000.
   * @throws SystemError EINVAL once there is a vCPU
   */
  setIdentityMapAddress(address: number): void {
    request(this, 'KVM_SET_IDENTITY_MAP_ADDR', BigUint64Array.of(BigInt(address)))
  }

  /** Which vCPU is the boot processor, by its id; default 0. Before there are vCPUs. */
  setBootCpuId(id: number): void {
    request(this, 'KVM_SET_BOOT_CPU_ID', id)
  }

  // Interrupts

  /** Makes two 8259As, an I/O APIC, and a local APIC for every vCPU made from now on. */
  createIrqchip(): void {
    request(this, 'KVM_CREATE_IRQCHIP')
  }

  /** @param chip `KVM_IRQCHIP_PIC_MASTER` or `KVM_IRQCHIP_PIC_SLAVE` */
  getPic(chip: PicNumber): devices.PicState {
    return this.#getChip(chip, devices.kvm_pic_state)
  }

  setPic(chip: PicNumber, state: devices.PicState): void {
    this.#setChip(chip, devices.kvm_pic_state, state)
  }

  getIoapic(): devices.IoapicState {
    return this.#getChip(KVM_IRQCHIP_IOAPIC, devices.kvm_ioapic_state)
  }

  setIoapic(state: devices.IoapicState): void {
    this.#setChip(KVM_IRQCHIP_IOAPIC, devices.kvm_ioapic_state, state)
  }

  /**
   * Sets an interrupt line. A level-triggered one stays up until it is set down; an edge is up, then down.
   * @throws SystemError ENXIO without an irqchip
   */
  setIrqLine(gsi: number, active: boolean): void {
    this.#fillIrqLevel(gsi, active)
    request(this, 'KVM_IRQ_LINE', structs.kvm_irq_level.bytesOf(this.#irqLevel))
  }

  /** As {@link setIrqLine}, and tells how many vCPUs got it: 0 where it was merged with one pending, -1 where masked. */
  setIrqLineStatus(gsi: number, active: boolean): number {
    this.#fillIrqLevel(gsi, active)
    request(this, 'KVM_IRQ_LINE_STATUS', structs.kvm_irq_level.bytesOf(this.#irqLevel))
    return this.#irqLevel.irq | 0
  }

  /**
   * Sends a message-signalled interrupt.
   * @returns whether a vCPU got it: false where the guest blocked it
   * @throws SystemError EPERM where it is for no vCPU there is
   */
  signalMsi(msi: Msi): boolean {
    const { deviceId } = msi
    this.#msi.address_lo = msi.addressLow
    this.#msi.address_hi = msi.addressHigh ?? 0
    this.#msi.data = msi.data
    this.#msi.flags = deviceId === undefined ? 0 : KVM_MSI_VALID_DEVID
    this.#msi.devid = deviceId ?? 0
    return request(this, 'KVM_SIGNAL_MSI', structs.kvm_msi.bytesOf(this.#msi)) > 0
  }

  /** Replaces the table of where GSIs go; up to 4096 routes. */
  setGsiRouting(routes: readonly GsiRoute[]): void {
    request(this, 'KVM_SET_GSI_ROUTING', encodeGsiRouting(routes))
  }

  /**
   * Has KVM raise a GSI whenever an eventfd is written.
   * @param resampleFd an eventfd for a level-triggered line: KVM writes it when the guest acknowledges, and lets the line
   *   down. Needs KVM_CAP_IRQFD_RESAMPLE. Default none: an edge.
   * @throws SystemError EBUSY where the eventfd raises a GSI already
   */
  registerIrqfd(fd: number, gsi: number, resampleFd?: number): void {
    const flags = resampleFd === undefined ? 0 : KVM_IRQFD_FLAG_RESAMPLE
    setStruct(this, 'KVM_IRQFD', structs.kvm_irqfd, { fd, gsi, flags, resamplefd: resampleFd ?? 0 })
  }

  /** Ends that. KVM says nothing of an eventfd that was not registered. */
  unregisterIrqfd(fd: number, gsi: number): void {
    setStruct(this, 'KVM_IRQFD', structs.kvm_irqfd, {
      fd,
      gsi,
      flags: KVM_IRQFD_FLAG_DEASSIGN,
      resamplefd: 0,
    })
  }

  // Guest writes that do not end KVM_RUN

  /**
   * Has KVM write an eventfd whenever the guest writes an address; the write does not end KVM_RUN then.
   * @throws SystemError EEXIST where the same writes ring another
   */
  registerIoEvent(fd: number, event: IoEvent): void {
    request(this, 'KVM_IOEVENTFD', encodeIoEvent(fd, event, true))
  }

  /** Ends that; the event has to be the same. SystemError ENOENT where it is not. */
  unregisterIoEvent(fd: number, event: IoEvent): void {
    request(this, 'KVM_IOEVENTFD', encodeIoEvent(fd, event, false))
  }

  /** Has KVM keep writes in a ring: see {@link Vcpu.coalescedRing}. */
  registerCoalescedZone(zone: CoalescedZone): void {
    setStruct(this, 'KVM_REGISTER_COALESCED_MMIO', structs.kvm_coalesced_mmio_zone, encodeZone(zone))
  }

  unregisterCoalescedZone(zone: CoalescedZone): void {
    setStruct(this, 'KVM_UNREGISTER_COALESCED_MMIO', structs.kvm_coalesced_mmio_zone, encodeZone(zone))
  }

  // Timers and clocks

  /**
   * Makes an 8254 timer. Needs the irqchip.
   * @param flags `KVM_PIT_SPEAKER_DUMMY` answers the speaker's port 0x61 too; default 0
   */
  createPit2(flags = 0): void {
    setStruct(this, 'KVM_CREATE_PIT2', devices.kvm_pit_config, { flags })
  }

  getPit2(): devices.PitState2 {
    return getStruct(this, 'KVM_GET_PIT2', devices.kvm_pit_state2)
  }

  setPit2(state: devices.PitState2): void {
    setStruct(this, 'KVM_SET_PIT2', devices.kvm_pit_state2, state)
  }

  /** Whether the 8254 makes up for ticks that the guest missed. Default true. */
  setPitReinject(reinject: boolean): void {
    setStruct(this, 'KVM_REINJECT_CONTROL', devices.kvm_reinject_control, { pit_reinject: reinject ? 1 : 0 })
  }

  getClock(): devices.ClockData {
    return getStruct(this, 'KVM_GET_CLOCK', devices.kvm_clock_data)
  }

  /**
   * Sets kvm-clock, to what {@link getClock} gave. With `KVM_CLOCK_REALTIME` in its flags the time that has passed on the
   * host since `realtime` is added.
   */
  setClock(clock: devices.ClockData): void {
    setStruct(this, 'KVM_SET_CLOCK', devices.kvm_clock_data, clock)
  }

  /** The TSC frequency of vCPUs made from now on. Needs KVM_CAP_VM_TSC_CONTROL. */
  setTscKhz(khz: number): void {
    request(this, 'KVM_SET_TSC_KHZ', khz)
  }

  /** Needs KVM_CAP_VM_TSC_CONTROL. */
  getTscKhz(): number {
    return request(this, 'KVM_GET_TSC_KHZ')
  }

  // MSRs

  /**
   * Says which MSRs the guest may touch. With KVM_CAP_X86_USER_SPACE_MSR enabled for `KVM_MSR_EXIT_REASON_FILTER` a denied
   * access ends KVM_RUN; otherwise the guest gets a #GP.
   * @throws KvmError ERR_KVM_OUT_OF_RANGE for more than 16 ranges, or a bitmap shorter than its range
   */
  setMsrFilter(filter: MsrFilter): void {
    request(this, 'KVM_X86_SET_MSR_FILTER', encodeMsrFilter(filter))
  }

  /**
   * Says which performance events the guest may count. Needs KVM_CAP_PMU_EVENT_FILTER.
   * @param filter up to 300 events
   */
  setPmuEventFilter(filter: PmuEventFilter): void {
    request(this, 'KVM_SET_PMU_EVENT_FILTER', encodePmuEventFilter(filter))
  }

  // Other hypervisors' interfaces

  /** Rings an eventfd when the guest signals a Hyper-V connection. Needs KVM_CAP_HYPERV_EVENTFD. */
  registerHypervEventfd(fd: number, connectionId: number): void {
    const value = { conn_id: connectionId, fd, flags: 0 }
    setStruct(this, 'KVM_HYPERV_EVENTFD', devices.kvm_hyperv_eventfd, value)
  }

  /** Ends that. */
  unregisterHypervEventfd(connectionId: number): void {
    const value = { conn_id: connectionId, fd: -1, flags: KVM_HYPERV_EVENTFD_DEASSIGN }
    setStruct(this, 'KVM_HYPERV_EVENTFD', devices.kvm_hyperv_eventfd, value)
  }

  /**
   * Shows the guest Xen's hypercalls; they end runs as `xen-hypercall`. Needs KVM_CAP_XEN_HVM.
   * @param flags `KVM_XEN_HVM_CONFIG_*`
   * @param msr what the guest writes to have the page of hypercalls put into its memory
   */
  setXenHvmConfig(flags: number, msr: number): void {
    setStruct(this, 'KVM_XEN_HVM_CONFIG', structs.kvm_xen_hvm_config, {
      flags,
      msr,
      blob_addr_32: 0n,
      blob_addr_64: 0n,
      blob_size_32: 0,
      blob_size_64: 0,
    })
  }

  // Memory encryption

  /**
   * A command of AMD SEV.
   * @param id `KVM_SEV_*`
   * @param sevFd /dev/sev
   * @param data the command's own structure; default none
   * @throws SystemError, with the firmware's error in its message
   */
  sevCommand(id: number, sevFd: number, data?: NodeJS.ArrayBufferView): void {
    const command = structs.kvm_sev_cmd.allocate()
    command.id = id
    command.sev_fd = sevFd
    command.data = data === undefined ? 0n : addressOf(data)
    const result = requestRaw(this, 'KVM_MEMORY_ENCRYPT_OP', structs.kvm_sev_cmd.bytesOf(command))
    if (result < 0) {
      throw new SystemError(
        'KVM_MEMORY_ENCRYPT_OP',
        -result,
        `SEV command ${id}, firmware error ${command.error}`,
      )
    }
  }

  /** A command of another kind of encrypted VM, for example TDX: its structure as it is. */
  encryptOp(argument: NodeJS.ArrayBufferView): void {
    request(this, 'KVM_MEMORY_ENCRYPT_OP', argument)
  }

  /** Pins host memory that an encrypted guest may use. */
  registerEncryptedRegion(hostAddress: bigint, size: number): void {
    const region = { addr: hostAddress, size }
    setStruct(this, 'KVM_MEMORY_ENCRYPT_REG_REGION', structs.kvm_enc_region, region)
  }

  unregisterEncryptedRegion(hostAddress: bigint, size: number): void {
    const region = { addr: hostAddress, size }
    setStruct(this, 'KVM_MEMORY_ENCRYPT_UNREG_REGION', structs.kvm_enc_region, region)
  }

  // Children

  /** A file to read KVM's counters of this VM from, in the format of api.rst, 4.133. Needs KVM_CAP_BINARY_STATS_FD. */
  openStats(): OwnedFd {
    return new OwnedFd(request(this, 'KVM_GET_STATS_FD'))
  }

  /**
   * A new vCPU.
   * @param id 0 to {@link Kvm.maxVcpuId} - 1; its APIC id, too
   * @throws SystemError EEXIST where there is one with this id, EINVAL for an id too high
   */
  createVcpu(id: number, options: VcpuOptions = {}): Vcpu {
    const xsaveSize = this.checkExtension(KVM_CAP_XSAVE2)
    const fd = request(this, 'KVM_CREATE_VCPU', id)
    return this.#adopt(
      Vcpu.fromFd(
        { fd, mmapSize: this.#vcpuMmapSize, xsaveSize, dirtyRingSize: this.#dirtyRingSize },
        options,
      ),
    )
  }

  /**
   * A device inside KVM.
   * @param type `KVM_DEV_TYPE_*`
   * @throws SystemError ENODEV where KVM has no such
   */
  createDevice(type: number): Device {
    const argument = devices.kvm_create_device.allocate()
    argument.type = type
    request(this, 'KVM_CREATE_DEVICE', devices.kvm_create_device.bytesOf(argument))
    return this.#adopt(Device.fromFd(argument.fd))
  }

  /** Whether KVM has a type of device, without making one. */
  hasDevice(type: number): boolean {
    const argument = devices.kvm_create_device.encode({ type, fd: 0, flags: KVM_CREATE_DEVICE_TEST })
    return probe(this, 'KVM_CREATE_DEVICE', argument, ENODEV)
  }

  #fillIrqLevel(gsi: number, active: boolean): void {
    this.#irqLevel.irq = gsi
    this.#irqLevel.level = active ? 1 : 0
  }

  #adopt<T extends Handle>(child: T): T {
    for (const known of this.#children) if (known.closed) this.#children.delete(known)
    this.#children.add(child)
    return child
  }

  #getChip<T extends object>(chip_id: number, state: Struct<T>): T {
    const bytes = devices.kvm_irqchip.encode({ chip_id, chip: new Uint8Array(CHIP_SIZE) })
    request(this, 'KVM_GET_IRQCHIP', bytes)
    return state.decode(bytes.subarray(CHIP_OFFSET))
  }

  #setChip<T extends object>(chip_id: number, state: Struct<T>, value: T): void {
    const chip = new Uint8Array(CHIP_SIZE)
    chip.set(state.encode(value))
    setStruct(this, 'KVM_SET_IRQCHIP', devices.kvm_irqchip, { chip_id, chip })
  }
}

type PicNumber = typeof KVM_IRQCHIP_PIC_MASTER | typeof KVM_IRQCHIP_PIC_SLAVE

const PAGE_SIZE = 4096
const ENODEV = 19
const CHIP_OFFSET = devices.kvm_irqchip.offsetOf('chip')
const CHIP_SIZE = devices.kvm_irqchip.size - CHIP_OFFSET

function encodeRegion(region: MemoryRegion): {
  slot: number
  flags: number
  guest_phys_addr: number
  memory_size: number
  userspace_addr: bigint
} {
  return {
    slot: region.slot,
    flags: region.flags ?? 0,
    guest_phys_addr: region.guestAddress,
    memory_size: region.size,
    userspace_addr: region.hostAddress,
  }
}

function encodeZone({ space, address, size }: CoalescedZone): { addr: number; size: number; pio: number } {
  return { addr: address, size, pio: space === 'pio' ? 1 : 0 }
}
