/**
 * virtio-mmio, version 2: the registers of virtio 1.2 section 4.2 in front of a device. The legacy interface (version 1)
 * is not here, nor is VIRTIO_F_NOTIFICATION_DATA.
 *
 * The data path costs no exit where the VMM wires what is offered for it: `doorbells` as ioeventfds, the interrupt
 * as an irqfd, `page` as a read-only memory slot, and `ackDoorbell`.
 */
import type { BusDevice } from '../../bus/device.ts'
import { DevicesError } from '../../error.ts'
import type { Interrupt } from '../../host.ts'
import { StateChecker } from '../../state.ts'
import type { VirtioTransportOptions } from '../core.ts'
import { VirtioCore } from '../core.ts'
import type { SharedMemoryRegion, VirtioDevice } from '../device.ts'
import type { VirtioCounters } from '../events.ts'
import { VIRTIO_CONFIG_S_DRIVER_OK } from '../spec.ts'
import type { VirtioCoreState } from '../state.ts'
import { InterruptStatus } from './interrupt-status.ts'
import { RegisterPage } from './register-page.ts'
import * as reg from './registers.ts'

/** Options of {@link MmioTransport}. */
export interface MmioTransportOptions extends VirtioTransportOptions {
  /** The device's interrupt line, one edge a call. Over KVM an irqfd without resampling. */
  readonly interrupt: Interrupt
  /**
   * Where the register page lives: 4096 bytes on a 4-byte boundary, which the guest must not be able to write. Give
   * page-aligned memory of the host's to map it into the guest. Default: memory of its own.
   */
  readonly page?: Uint8Array | undefined
  /**
   * Whether the VMM has an ioeventfd take writes of 1 to InterruptACK, see {@link MmioTransport.ackDoorbell}. From the first
   * used buffer on, the used-buffer bit of InterruptStatus then stays set until the device is reset. Default false.
   */
  readonly ackDoorbell?: boolean | undefined
}

/** A write of the guest's that an ioeventfd can take. */
export interface MmioDoorbell {
  /** From the device's address, in bytes. */
  readonly offset: number
  /** Width of the write, in bytes. */
  readonly size: 4
  /** The value that is written (`datamatch`). */
  readonly value: number
}

/** What {@link MmioTransport.state} returns: plain data that survives JSON. */
export interface MmioTransportState extends VirtioCoreState {
  readonly version: 1
  readonly deviceFeaturesSel: number
  readonly driverFeaturesSel: number
  readonly queueSel: number
  readonly shmSel: number
  readonly interruptStatus: number
  readonly configGeneration: number
}

/**
 * A virtio device on an MMIO bus.
 *
 * @example
 * ```ts
 * const transport = new MmioTransport({ device: new Rng(), memory, interrupt })
 * mmio.register({ base: slot.address, size: VIRTIO_MMIO_SIZE, device: transport })
 * for (const bell of transport.doorbells) {
 *   onDoorbell(slot.address + bell.offset, bell, () => transport.notify(bell.value))
 * }
 * ```
 */
export class MmioTransport implements BusDevice, Disposable {
  readonly accessBytes = 4
  /**
   * The 4096 bytes that the guest reads at the device's address, up to date at any time: for a read-only memory slot.
   * Read-only to everybody else, too.
   */
  readonly page: Uint8Array
  /** Writes that the VMM should take by ioeventfds and pass to {@link notify} with their value: one for each queue. */
  readonly doorbells: readonly MmioDoorbell[]
  /** The write that the VMM takes by one more ioeventfd; nobody has to look at that. Undefined without the option. */
  readonly ackDoorbell: MmioDoorbell | undefined
  readonly #core: VirtioCore
  readonly #page: RegisterPage
  readonly #interrupt: InterruptStatus
  readonly #config: Uint8Array
  readonly #sharedMemory: readonly SharedMemoryRegion[]
  #deviceFeaturesSel = 0
  #driverFeaturesSel = 0
  #queueSel = 0
  #shmSel = 0
  #configGeneration = 0

  /** @throws DevicesError ERR_DEVICE_OPTION */
  constructor(options: MmioTransportOptions) {
    const { device, interrupt, page = new Uint8Array(reg.VIRTIO_MMIO_SIZE), ackDoorbell = false } = options
    this.#page = new RegisterPage(page)
    this.page = page
    this.#interrupt = new InterruptStatus(this.#page, interrupt, ackDoorbell)
    this.#config = device.config
    this.#sharedMemory = checkSharedMemory(device)
    this.#core = new VirtioCore(options, {
      statusChanged: () => this.#refreshStatus(),
      queueInterrupt: () => this.#interrupt.raise(reg.VIRTIO_MMIO_INT_VRING),
      configChanged: () => this.#changeConfig(),
      configInterrupt: () => this.#interrupt.raise(reg.VIRTIO_MMIO_INT_CONFIG),
      reset: () => this.#reset(),
    })
    this.doorbells = device.queueSizes.map((_, i) => ({
      offset: reg.VIRTIO_MMIO_QUEUE_NOTIFY,
      size: 4,
      value: i,
    }))
    this.ackDoorbell = ackDoorbell
      ? { offset: reg.VIRTIO_MMIO_INTERRUPT_ACK, size: 4, value: reg.VIRTIO_MMIO_INT_VRING }
      : undefined
    this.#page.set(reg.VIRTIO_MMIO_MAGIC_VALUE, reg.VIRTIO_MMIO_MAGIC)
    this.#page.set(reg.VIRTIO_MMIO_VERSION, reg.VIRTIO_MMIO_VERSION_2)
    this.#page.set(reg.VIRTIO_MMIO_DEVICE_ID, device.type)
    this.#page.set(reg.VIRTIO_MMIO_VENDOR_ID, reg.VIRTIO_MMIO_VENDOR)
    this.#page.copyConfig(device.config)
    this.#refresh()
  }

  /** The device behind it. */
  get device(): VirtioDevice {
    return this.#core.device
  }

  /** What it has counted since it was made: faults, notifications and the like. */
  get counters(): VirtioCounters {
    return this.#core.counters
  }

  /** The device status, as the driver reads it. */
  get status(): number {
    return this.#core.status
  }

  /** Whether {@link close} has been called. */
  get closed(): boolean {
    return this.#core.closed
  }

  /**
   * Ends the device's use, when the vCPUs have stopped and before guest memory and the register page go: it is reset, and
   * what is under way on its host's side, or was put off to a later turn, touches neither of them any more. Accesses and
   * notifications that come all the same are ignored. Idempotent.
   */
  close(): void {
    this.#core.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** A doorbell has rung. Harmless at any time. @param queue index; what is none is ignored */
  notify(queue: number): void {
    this.#core.notify(queue)
  }

  /** A guest read: registers by 4 bytes alone, the configuration space in any width. */
  read(offset: number, size: number): number {
    if (this.#core.closed) return 0
    if (offset >= reg.VIRTIO_MMIO_CONFIG) return this.#page.readConfig(offset, size)
    if (size === 4 && (offset & 3) === 0) return this.#page.get(offset)
    this.#core.ignore()
    return 0
  }

  /** A guest write, as {@link read}. What cannot be is ignored, and counted. */
  write(offset: number, value: number, size: number): void {
    if (this.#core.closed) return
    if (offset >= reg.VIRTIO_MMIO_CONFIG) this.#writeConfig(offset - reg.VIRTIO_MMIO_CONFIG, value, size)
    else if (size === 4) this.#writeRegister(offset, value)
    else this.#core.ignore()
  }

  /**
   * The device, its queues and registers, to be saved: while no vCPU runs, and nothing is under way in the device.
   * @throws DevicesError ERR_DEVICE_BUSY
   */
  state(): MmioTransportState {
    return {
      version: 1,
      ...this.#core.state(),
      deviceFeaturesSel: this.#deviceFeaturesSel,
      driverFeaturesSel: this.#driverFeaturesSel,
      queueSel: this.#queueSel,
      shmSel: this.#shmSel,
      interruptStatus: this.#interrupt.bits,
      configGeneration: this.#configGeneration,
    }
  }

  /**
   * A device as it was saved. The state may come from anywhere: all of it is checked. Guest memory must be there; the
   * device does nothing before {@link resume}.
   * @param options as when it was saved, with a new device
   * @throws DevicesError ERR_DEVICE_STATE
   */
  static fromState(state: MmioTransportState, options: MmioTransportOptions): MmioTransport {
    const check = new StateChecker('virtio-mmio', state)
    check.version(1)
    for (const field of [
      'deviceFeaturesSel',
      'driverFeaturesSel',
      'queueSel',
      'shmSel',
      'configGeneration',
    ]) {
      check.bits(field, 0xffff_ffff)
    }
    const pending = check.bits('interruptStatus', reg.VIRTIO_MMIO_INT_VRING | reg.VIRTIO_MMIO_INT_CONFIG)
    const transport = new MmioTransport(options)
    transport.#core.restore(state)
    if (pending !== 0 && (transport.status & VIRTIO_CONFIG_S_DRIVER_OK) === 0) {
      check.refuse('interruptStatus', '0 before DRIVER_OK')
    }
    transport.#deviceFeaturesSel = state.deviceFeaturesSel
    transport.#driverFeaturesSel = state.driverFeaturesSel
    transport.#queueSel = state.queueSel
    transport.#shmSel = state.shmSel
    transport.#interrupt.set(pending)
    transport.#configGeneration = state.configGeneration
    transport.#page.copyConfig(transport.#config)
    transport.#refresh()
    return transport
  }

  /**
   * Takes no more chains until {@link resume}, and settles when what was under way has ended: its device changes neither guest
   * memory nor its own state any more. To be called while no vCPU runs. Idempotent.
   */
  async pause(): Promise<void> {
    this.#core.pause()
    await this.#core.device.idle?.()
  }

  /**
   * Goes on after {@link pause}; or after {@link fromState}, when the rest of the VM is there: makes pending interrupts. Looks at
   * the queues. Idempotent.
   */
  resume(): void {
    this.#interrupt.resume()
    this.#core.resume()
  }

  #writeRegister(offset: number, value: number): void {
    const core = this.#core
    switch (offset) {
      case reg.VIRTIO_MMIO_QUEUE_NOTIFY:
        core.notify(value)
        break
      case reg.VIRTIO_MMIO_INTERRUPT_ACK:
        if ((core.status & VIRTIO_CONFIG_S_DRIVER_OK) === 0) core.ignore()
        else this.#interrupt.acknowledge(value)
        break
      case reg.VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        this.#deviceFeaturesSel = value
        this.#refreshFeatures()
        break
      case reg.VIRTIO_MMIO_DRIVER_FEATURES:
        core.writeFeatures(this.#driverFeaturesSel, value)
        break
      case reg.VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        this.#driverFeaturesSel = value
        break
      case reg.VIRTIO_MMIO_QUEUE_SEL:
        this.#queueSel = value
        this.#refreshStatus()
        break
      case reg.VIRTIO_MMIO_QUEUE_NUM:
        core.writeQueueSize(this.#queueSel, value)
        break
      case reg.VIRTIO_MMIO_QUEUE_READY:
        core.writeQueueReady(this.#queueSel, value)
        break
      case reg.VIRTIO_MMIO_QUEUE_RESET:
        if (value === 1) core.resetQueue(this.#queueSel)
        else core.ignore()
        break
      case reg.VIRTIO_MMIO_QUEUE_DESC_LOW:
        core.writableRegisters(this.#queueSel)?.descriptorArea.setLow(value)
        break
      case reg.VIRTIO_MMIO_QUEUE_DESC_HIGH:
        core.writableRegisters(this.#queueSel)?.descriptorArea.setHigh(value)
        break
      case reg.VIRTIO_MMIO_QUEUE_DRIVER_LOW:
        core.writableRegisters(this.#queueSel)?.driverArea.setLow(value)
        break
      case reg.VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
        core.writableRegisters(this.#queueSel)?.driverArea.setHigh(value)
        break
      case reg.VIRTIO_MMIO_QUEUE_DEVICE_LOW:
        core.writableRegisters(this.#queueSel)?.deviceArea.setLow(value)
        break
      case reg.VIRTIO_MMIO_QUEUE_DEVICE_HIGH:
        core.writableRegisters(this.#queueSel)?.deviceArea.setHigh(value)
        break
      case reg.VIRTIO_MMIO_STATUS:
        core.writeStatus(value)
        break
      case reg.VIRTIO_MMIO_SHM_SEL:
        this.#shmSel = value
        this.#refreshSharedMemory()
        break
      default:
        core.ignore()
    }
  }

  #writeConfig(offset: number, value: number, size: number): void {
    const { device } = this.#core
    const isInside = offset + size <= this.#config.length
    if (!isInside || device.writeConfig === undefined || !this.#core.configWritable) {
      this.#core.ignore()
      return
    }
    device.writeConfig(offset, size, value)
    this.#page.copyConfig(this.#config)
  }

  /**
   * A driver reads the generation, then fields, then the generation again, and all over if it has changed. Over exits
   * that is exact. From the page another thread reads: with a new generation before the change and one after it, only
   * a driver that does all its reads within the microsecond of the change can see half of it; and it reads again upon
   * the notification that follows.
   */
  #changeConfig(): void {
    this.#bumpGeneration()
    this.#page.copyConfig(this.#config)
    this.#bumpGeneration()
  }

  #bumpGeneration(): void {
    this.#configGeneration = (this.#configGeneration + 1) >>> 0
    this.#page.set(reg.VIRTIO_MMIO_CONFIG_GENERATION, this.#configGeneration)
  }

  #reset(): void {
    this.#deviceFeaturesSel = 0
    this.#driverFeaturesSel = 0
    this.#queueSel = 0
    this.#shmSel = 0
    this.#interrupt.set(0)
    this.#page.copyConfig(this.#config)
    this.#refresh()
  }

  /** Shows all that does not show itself. */
  #refresh(): void {
    this.#refreshFeatures()
    this.#refreshStatus()
    this.#refreshSharedMemory()
    this.#page.set(reg.VIRTIO_MMIO_CONFIG_GENERATION, this.#configGeneration)
  }

  #refreshFeatures(): void {
    const page = this.#deviceFeaturesSel
    const words = page === 0 ? this.#core.offeredLow : page === 1 ? this.#core.offeredHigh : 0
    this.#page.set(reg.VIRTIO_MMIO_DEVICE_FEATURES, words)
  }

  #refreshStatus(): void {
    const registers = this.#core.registersOf(this.#queueSel)
    this.#page.set(reg.VIRTIO_MMIO_STATUS, this.#core.status)
    this.#page.set(reg.VIRTIO_MMIO_QUEUE_NUM_MAX, registers === undefined ? 0 : registers.maxSize)
    this.#page.set(reg.VIRTIO_MMIO_QUEUE_READY, registers?.ready === true ? 1 : 0)
  }

  /** A region that does not exist has the length and the base -1 (4.2.2.1). */
  #refreshSharedMemory(): void {
    const region = this.#sharedMemory.find(({ id }) => id === this.#shmSel)
    this.#set64(reg.VIRTIO_MMIO_SHM_LEN_LOW, region?.size)
    this.#set64(reg.VIRTIO_MMIO_SHM_BASE_LOW, region?.address)
  }

  #set64(register: number, value: number | undefined): void {
    this.#page.set(register, value === undefined ? 0xffff_ffff : value % 2 ** 32)
    this.#page.set(register + 4, value === undefined ? 0xffff_ffff : Math.floor(value / 2 ** 32))
  }
}

function checkSharedMemory(device: VirtioDevice): readonly SharedMemoryRegion[] {
  const regions = device.sharedMemory ?? []
  const ids = new Set(regions.map(({ id }) => id))
  for (const { id, address, size } of regions) {
    const isRange = Number.isSafeInteger(address) && Number.isSafeInteger(size) && address >= 0 && size > 0
    if (
      !isRange ||
      !Number.isSafeInteger(address + size) ||
      !(Number.isInteger(id) && id >= 0 && id <= 255)
    ) {
      const message = `shared memory region ${id}: no ${size} bytes at ${address} and no such id are possible`
      throw new DevicesError('ERR_DEVICE_OPTION', message, { address, size })
    }
  }
  if (ids.size !== regions.length) {
    throw new DevicesError('ERR_DEVICE_OPTION', 'two shared memory regions have the same id')
  }
  return regions
}
