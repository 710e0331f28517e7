/**
 * The microVM: what it is made of, in the order of its making, and how it ends. Each part comes from a package; here is
 * the wiring alone.
 */
import { randomBytes } from 'node:crypto'
import { type Bus, createMmioBus, createPioBus, type Interrupt, type Serial } from '@vmm/devices'
import { EventManager } from '@vmm/event-manager'
import { KVM_PIT_SPEAKER_DUMMY, Kvm, type Vm } from '@vmm/kvm-ioctls'
import { Cmdline, configureBoot, ramRegions } from '@vmm/linux-loader'
import { EventFd } from '@vmm/sys-util'
import type { GuestMemory } from '@vmm/vm-memory'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import { Cleanup } from './cleanup.ts'
import type { DeviceHost } from './device.ts'
import type { MicroVmEnd } from './end.ts'
import { loadImages } from './images.ts'
import { attachLegacyDevices } from './legacy-devices.ts'
import {
  checkAgainstHost,
  type MicroVmEvents,
  type MicroVmOptions,
  type MicroVmSettings,
  withDefaults,
} from './options.ts'
import { GuestVcpu } from './vcpu.ts'
import { runVcpu } from './vcpu-loop.ts'
import { VirtioBus } from './virtio-bus.ts'

/** Three pages that Intel's KVM needs for real mode, below the BIOS: where QEMU has them. */
const TSS_ADDRESS = 0xfffb_d000
const IDENTITY_MAP_ADDRESS = 0xfffb_c000

/**
 * A VM with its kernel loaded, to be run once.
 *
 * @example
 * ```ts
 * const vm = await MicroVm.create({ kernel: 'vmlinux', initrd: 'initramfs.cpio', output: process.stdout })
 * const end = await vm.run()
 * vm.close()
 * ```
 */
export class MicroVm {
  /** The guest's first serial port. */
  readonly serial: Serial
  readonly memory: GuestMemory
  /** Port I/O: devices can be added until the VM runs. */
  readonly pio: Bus = createPioBus()
  /** Memory-mapped I/O: devices can be added until the VM runs. */
  readonly mmio: Bus = createMmioBus()
  readonly #ram: MappedMemory
  readonly #cleanup: Cleanup
  readonly #vm: Vm
  readonly #events: MicroVmEvents
  readonly #virtio: VirtioBus
  readonly #end: Promise<MicroVmEnd>
  #resolveEnd: (end: MicroVmEnd) => void = () => {}
  #settle: (() => Promise<void>)[] = []
  #vcpus: readonly GuestVcpu[] = []
  #ended = false

  /**
   * Makes a VM, its devices, and loads its kernel.
   * @throws MicroVmError for what is impossible, LoaderError for files that cannot be read, KvmError and SystemError for
   *   what the host lacks, and what the devices throw
   */
  static async create(options: MicroVmOptions): Promise<MicroVm> {
    const settings = withDefaults(options)
    const cleanup = new Cleanup()
    try {
      const kvm = cleanup.add(Kvm.open({ path: settings.kvm }))
      checkAgainstHost(settings, kvm)
      const ram = cleanup.add(MappedMemory.anonymous(ramRegions(settings.memory)))
      const machine = new MicroVm(cleanup.add(kvm.createVm()), ram, cleanup, settings)
      await machine.#boot(settings, kvm)
      return machine
    } catch (error) {
      cleanup.close()
      throw error
    }
  }

  private constructor(vm: Vm, ram: MappedMemory, cleanup: Cleanup, settings: MicroVmSettings) {
    const { memory } = ram
    this.#vm = vm
    this.#ram = ram
    this.#cleanup = cleanup
    this.#events = settings.events
    this.memory = memory
    this.#end = new Promise((resolve) => {
      this.#resolveEnd = resolve
    })
    vm.setTssAddress(TSS_ADDRESS)
    vm.setIdentityMapAddress(IDENTITY_MAP_ADDRESS)
    vm.createIrqchip()
    vm.createPit2(KVM_PIT_SPEAKER_DUMMY)
    for (const [slot, region] of memory.regions.entries()) {
      const { start, size, hostAddress = 0n } = region
      vm.setUserMemoryRegion({ slot, guestAddress: start, size, hostAddress })
    }
    this.serial = attachLegacyDevices({
      pio: this.pio,
      memory,
      output: settings.output,
      own: (owner) => cleanup.add(owner),
      interrupt: (irq) => this.#interrupt(irq),
      stop: (end) => this.#stop(end),
      bootMarker: () => this.#events.bootMarker?.(),
    })
    this.#virtio = new VirtioBus({
      vm,
      memory,
      mmio: this.mmio,
      events: cleanup.add(new EventManager()),
      own: (owner) => cleanup.add(owner),
    })
  }

  /** An ISA interrupt line: an eventfd that KVM turns into an edge. */
  #interrupt(irq: number): Interrupt {
    const eventFd = this.#cleanup.add(new EventFd())
    this.#vm.registerIrqfd(eventFd.fd, irq)
    return { trigger: () => eventFd.write() }
  }

  async #boot(settings: MicroVmSettings, kvm: Kvm): Promise<void> {
    const { memory } = this
    const { cpus } = settings
    const { kernel, initrd } = await loadImages(memory, settings)
    const cmdline = Cmdline.from(settings.cmdline)
    const host: DeviceHost = {
      memory,
      discard: (address, size) => this.#ram.discard(address, size),
      virtio: this.#virtio,
      own: (owner) => this.#cleanup.add(owner),
      beforeClose: (settle) => this.#settle.push(settle),
      warn: (message) => this.#events.warning?.(message),
    }
    for (const attach of settings.devices) await attach(host)
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

  /** Ends the VM from outside; what ended it before counts. Returns at once: {@link run} settles when it is over. */
  stop(reason: string): void {
    this.#stop({ kind: 'stopped', reason })
  }

  /**
   * Runs the vCPUs until something ends the VM. Each holds a thread of libuv's pool meanwhile: see UV_THREADPOOL_SIZE.
   * Once only.
   * @returns what ended it; what fails on the host's side is an end too, of the kind `failed`
   */
  async run(): Promise<MicroVmEnd> {
    const context = {
      pio: this.pio,
      mmio: this.mmio,
      events: this.#events,
      hasEnded: () => this.#ended,
      stop: (end: MicroVmEnd) => this.#stop(end),
    }
    const loops = this.#vcpus.map((vcpu) =>
      runVcpu(vcpu, context).catch((error: Error) =>
        this.#stop({ kind: 'failed', reason: error.message, cause: error }),
      ),
    )
    const end = await this.#end
    await Promise.all(this.#vcpus.map((vcpu) => vcpu.kvm.kick()))
    await Promise.all(loops)
    await Promise.all(this.#settle.map((settle) => settle()))
    this.serial.flush()
    return end
  }

  /** Frees everything. Idempotent; not while {@link run} is under way. */
  close(): void {
    this.#cleanup.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #stop(end: MicroVmEnd): void {
    this.#ended = true
    this.#resolveEnd(end)
  }
}
