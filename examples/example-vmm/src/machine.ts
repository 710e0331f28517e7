/**
 * The microVM: what it is made of, in the order of its making, and how it ends. Each part comes from a package; here is
 * the wiring alone.
 */
import { randomBytes } from 'node:crypto'
import {
  BOOT_TIMER_PORT,
  BOOT_TIMER_SIZE,
  BootTimer,
  type BufferingStream,
  boundedOutput,
  CMOS_BASE,
  CMOS_PORTS,
  CmosRtc,
  COM1_BASE,
  COM1_IRQ,
  createMmioBus,
  createPioBus,
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
import { EventManager } from '@vmm/event-manager'
import { KVM_PIT_SPEAKER_DUMMY, Kvm, type Vm } from '@vmm/kvm-ioctls'
import {
  Cmdline,
  configureBoot,
  ImageFile,
  LoaderError,
  loadInitrd,
  loadKernel,
  MMIO_GAP_END,
  ramRegions,
} from '@vmm/linux-loader'
import { EventFd } from '@vmm/sys-util'
import type { GuestMemory } from '@vmm/vm-memory'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import type { AttachDevice, DeviceHost } from './devices/device.ts'
import { VirtioBus } from './devices/virtio-bus.ts'
import { type MachineEnd, STATUS_HOST_FAILURE, STATUS_OK } from './end.ts'
import { checkAgainstHost, isInterpretingKvm } from './host.ts'
import { type KernelEntry, UsageError } from './options.ts'
import type { ReportBuilder } from './report.ts'
import { GuestVcpu } from './vcpu.ts'
import { runVcpu } from './vcpu-loop.ts'

/** Three pages that Intel's KVM needs for real mode, below the BIOS: where QEMU has them. */
const TSS_ADDRESS = 0xfffb_d000
const IDENTITY_MAP_ADDRESS = 0xfffb_c000
const MIB = 2 ** 20

/** Closes what was made, last first, when the VM ends or its making fails half-way. */
class Cleanup {
  readonly #owners: { close(): void }[] = []

  add<T extends { close(): void }>(owner: T): T {
    this.#owners.push(owner)
    return owner
  }

  close(): void {
    for (let owner = this.#owners.pop(); owner !== undefined; owner = this.#owners.pop()) owner.close()
  }
}

/** What a machine is made of. */
export interface MachineOptions {
  /** Path of the kernel image: ELF or bzImage. */
  readonly kernel: string
  /** How the kernel is entered. */
  readonly entry: KernelEntry
  /** Path of the initial RAM disk. */
  readonly initrd?: string | undefined
  /** The kernel's command line, to which the devices are added. */
  readonly cmdline: string
  /** Guest memory in MiB. */
  readonly memory: number
  /** Number of vCPUs. */
  readonly cpus: number
  /** Path of the KVM device. */
  readonly kvm: string
  /** What is there besides a PC's legacy devices. */
  readonly devices: readonly AttachDevice[]
  /** Takes what the guest writes to its first serial port. */
  readonly output: BufferingStream
  /** Takes sentences about what goes wrong with devices. */
  readonly warn: (message: string) => void
  readonly report: ReportBuilder
}

/** Loads the kernel and the initrd from their files. */
async function loadImages(memory: GuestMemory, options: MachineOptions) {
  const files = new Cleanup()
  let path = ''
  try {
    const { entry, initrd: initrdPath } = options
    path = options.kernel
    const kernel = await loadKernel(memory, files.add(new ImageFile(path)), {
      unpack: entry === 'auto' ? isInterpretingKvm() : entry !== 'bzimage',
      protocol: entry === 'pvh' ? 'pvh' : 'linux64',
    })
    if (initrdPath === undefined) return { kernel, initrd: undefined }
    path = initrdPath
    return { kernel, initrd: loadInitrd(memory, files.add(new ImageFile(path)), { kernel }) }
  } catch (error) {
    // What cannot be opened or read names its file already.
    if (!(error instanceof LoaderError) || error.code === 'ERR_IMAGE_FILE') throw error
    throw new UsageError(`${path}: ${error.message}`, { cause: error })
  } finally {
    files.close()
  }
}

/** A VM with its kernel loaded, ready to run once. */
export class Machine {
  /** The guest's console. */
  readonly serial: Serial
  /** Guest memory. */
  readonly memory: GuestMemory
  /** Port I/O. */
  readonly pio = createPioBus()
  /** Memory-mapped I/O. */
  readonly mmio = createMmioBus()
  /** Resolves when the VM has begun to end, with the reason. */
  readonly end: Promise<MachineEnd>
  /** Ends the VM; the first call decides. */
  readonly stop: (end: MachineEnd) => void
  readonly report: ReportBuilder
  readonly #cleanup: Cleanup
  readonly #vm: Vm
  readonly #virtio: VirtioBus
  readonly #settle: (() => Promise<void>)[] = []
  #vcpus: readonly GuestVcpu[] = []
  #ended = false

  /**
   * Makes a VM and loads its kernel.
   * @throws UsageError for what the options ask in vain, LoaderError for a kernel or initrd that is none, KvmError and
   *   SystemError for what the host lacks
   */
  static async create(options: MachineOptions): Promise<Machine> {
    const cleanup = new Cleanup()
    try {
      const kvm = cleanup.add(Kvm.open({ path: options.kvm }))
      checkAgainstHost(options, kvm)
      const ram = cleanup.add(MappedMemory.anonymous(ramRegions(options.memory * MIB)))
      const vm = cleanup.add(kvm.createVm())
      const machine = new Machine(vm, ram, cleanup, options)
      await machine.#boot(options, kvm)
      return machine
    } catch (error) {
      cleanup.close()
      throw error
    }
  }

  private constructor(vm: Vm, ram: MappedMemory, cleanup: Cleanup, options: MachineOptions) {
    this.#vm = vm
    this.#cleanup = cleanup
    this.memory = ram.memory
    this.report = options.report
    let resolveEnd: (end: MachineEnd) => void = () => {}
    this.end = new Promise((resolve) => {
      resolveEnd = resolve
    })
    this.stop = (end) => {
      this.#ended = true
      resolveEnd(end)
    }

    vm.setTssAddress(TSS_ADDRESS)
    vm.setIdentityMapAddress(IDENTITY_MAP_ADDRESS)
    vm.createIrqchip()
    vm.createPit2(KVM_PIT_SPEAKER_DUMMY)
    for (const [slot, region] of this.memory.regions.entries()) {
      const { start, size, hostAddress = 0n } = region
      vm.setUserMemoryRegion({ slot, guestAddress: start, size, hostAddress })
    }
    this.serial = this.#attachLegacyDevices(options.output)
    this.#virtio = new VirtioBus({
      vm,
      memory: this.memory,
      mmio: this.mmio,
      events: cleanup.add(new EventManager()),
      own: (owner) => cleanup.add(owner),
    })
  }

  #attachLegacyDevices(output: BufferingStream): Serial {
    const serial = new Serial({
      interrupt: this.#interrupt(COM1_IRQ),
      output: boundedOutput(output),
      flowControl: 'rts',
    })
    const above4GiB = Math.max(0, this.memory.lastAddress + 1 - MMIO_GAP_END)
    const below4GiB = this.memory.regions[0]?.size ?? 0
    const rtc = this.#cleanup.add(
      new CmosRtc({ interrupt: this.#interrupt(RTC_IRQ), memory: { below4GiB, above4GiB } }),
    )
    const i8042 = new I8042({
      keyboardInterrupt: this.#interrupt(KEYBOARD_IRQ),
      onReset: () => this.stop({ status: STATUS_OK, reason: 'the guest reset the machine' }),
    })
    const exit = new ExitPort((value) =>
      this.stop({ status: STATUS_OK, reason: `the guest ended the VM with ${value}` }),
    )
    const bootTimer = new BootTimer(() => this.report.mark('bootMarker'))
    this.pio.register(
      { name: 'com1', base: COM1_BASE, size: SERIAL_SIZE, device: serial },
      { name: 'rtc', base: CMOS_BASE, size: CMOS_PORTS, device: rtc },
      ...i8042.ranges(),
      { name: 'exit', base: EXIT_PORT, size: EXIT_PORT_SIZE, device: exit },
      { name: 'boot timer', base: BOOT_TIMER_PORT, size: BOOT_TIMER_SIZE, device: bootTimer },
    )
    return serial
  }

  /** An ISA interrupt line: an eventfd that KVM turns into an edge. */
  #interrupt(irq: number): Interrupt {
    const eventFd = this.#cleanup.add(new EventFd())
    this.#vm.registerIrqfd(eventFd.fd, irq)
    return { trigger: () => eventFd.write() }
  }

  async #boot(options: MachineOptions, kvm: Kvm): Promise<void> {
    const { memory } = this
    const { kernel, initrd } = await loadImages(memory, options)
    const { cpus } = options
    const cmdline = Cmdline.from(options.cmdline)
    const host: DeviceHost = {
      virtio: this.#virtio,
      own: (owner) => this.#cleanup.add(owner),
      beforeClose: (settle) => this.#settle.push(settle),
      warn: options.warn,
    }
    for (const attach of options.devices) await attach(host)
    this.#virtio.announce(cmdline)
    const bootState = configureBoot(memory, {
      kernel,
      initrd,
      cmdline,
      cpus,
      interrupts: this.#virtio.interrupts,
      rngSeed: randomBytes(64),
    })
    const cpuid = kvm.supportedCpuid()
    this.#vcpus = Array.from({ length: cpus }, (_, index) => {
      // The others wait for INIT and SIPI, as KVM makes them.
      return new GuestVcpu(this.#vm, {
        index,
        cpus,
        cpuid,
        bootState: index === 0 ? bootState : undefined,
        memory,
      })
    })
  }

  /** Whether the VM has begun to end. */
  get ended(): boolean {
    return this.#ended
  }

  /** Runs the vCPUs until something ends the VM, then takes it apart. */
  async run(): Promise<MachineEnd> {
    this.report.mark('firstRun')
    const loops = this.#vcpus.map((vcpu) =>
      runVcpu(vcpu, this).catch((error: Error) =>
        this.stop({ status: STATUS_HOST_FAILURE, reason: error.message }),
      ),
    )
    const end = await this.end
    await Promise.all(this.#vcpus.map((vcpu) => vcpu.kvm.kick()))
    await Promise.all(loops)
    await Promise.all(this.#settle.map((settle) => settle()))
    this.serial.flush()
    this.report.mark('exit')
    return end
  }

  /** Frees everything. Idempotent; not while {@link run} is under way. */
  close(): void {
    this.#cleanup.close()
  }
}
