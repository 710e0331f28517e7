/**
 * The microVM: what it is made of, in the order of its making, and how it runs, pauses and ends. Each part comes from a
 * package; here is the wiring alone.
 */
import { randomBytes } from 'node:crypto'
import { type Bus, createMmioBus, createPioBus, type Serial } from '@vmm/devices'
import { EventManager } from '@vmm/event-manager'
import { Kvm, type Vm } from '@vmm/kvm-ioctls'
import { Cmdline, configureBoot, type DsdtOptions, ramRegions } from '@vmm/linux-loader'
import type { GuestMemory } from '@vmm/vm-memory'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import { Cleanup } from './cleanup.ts'
import type { AttachDevice, DeviceHost } from './device.ts'
import { failedEnd, type MicroVmEnd } from './end.ts'
import { MicroVmError } from './error.ts'
import { GenerationId } from './generation-id.ts'
import { loadImages } from './images.ts'
import { InterruptLines } from './interrupt-lines.ts'
import { createKvmVm } from './kvm-vm.ts'
import { attachLegacyDevices, LEGACY_ACPI_DEVICES, type LegacyDevices } from './legacy-devices.ts'
import {
  checkAgainstHost,
  type MicroVmEvents,
  type MicroVmOptions,
  type MicroVmSettings,
  type RestoreOptions,
  withDefaults,
} from './options.ts'
import type { VmRam } from './ram.ts'
import { allSettled } from './settle.ts'
import { Standstill } from './standstill.ts'
import { saveKvmVm } from './state/kvm-state.ts'
import type { MicroVmState } from './state/microvm-state.ts'
import { checkRanges, restoreVcpus } from './state/restore.ts'
import { saveVcpu } from './state/vcpu-state.ts'
import { GuestVcpu } from './vcpu.ts'
import { VcpuGroup } from './vcpu-group.ts'
import { VirtioBus } from './virtio-bus.ts'

/** What a VM is built upon. */
interface Foundation {
  readonly kvm: Kvm
  readonly ram: VmRam
  readonly cleanup: Cleanup
  readonly options: Pick<RestoreOptions, 'output' | 'events'>
  readonly saved: MicroVmState | undefined
}

/**
 * A VM with its kernel loaded, or as it was saved: to be run once. Its descriptors keep the process going until it is closed.
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
  /** The guest's RAM. */
  readonly memory: GuestMemory
  /** What guest memory is mapped by, a `MappedMemory` unless {@link restore} got another: the VM's, which closes it. */
  readonly ram: VmRam
  /** Port I/O: devices can be added until the VM runs. */
  readonly pio: Bus = createPioBus()
  /** Memory-mapped I/O: devices can be added until the VM runs. */
  readonly mmio: Bus = createMmioBus()
  readonly #kvm: Kvm
  readonly #vm: Vm
  readonly #cleanup: Cleanup
  readonly #events: MicroVmEvents
  readonly #lines: InterruptLines
  readonly #legacy: LegacyDevices
  readonly #virtio: VirtioBus
  #generationId: GenerationId | undefined
  #phase: 'made' | 'running' | 'over' = 'made'
  readonly #cpus: VcpuGroup
  readonly #standstill: Standstill
  readonly #settle: (() => Promise<void>)[] = []

  /**
   * Makes a VM, its devices, and loads its kernel.
   * @throws MicroVmError for what is wrong or impossible, LoaderError for files that cannot be read, KvmError and SystemError for
   *   what the host lacks, and what the devices throw
   */
  static async create(options: MicroVmOptions): Promise<MicroVm> {
    const settings = withDefaults(options)
    const cleanup = new Cleanup()
    try {
      const kvm = cleanup.add(Kvm.open({ path: settings.kvm }))
      checkAgainstHost(settings, kvm)
      const { memory, transparentHugePages } = settings
      const ram = cleanup.add(MappedMemory.anonymous(ramRegions(memory), { transparentHugePages }))
      const vm = new MicroVm({ kvm, ram, cleanup, options: settings, saved: undefined })
      await vm.#boot(settings)
      return vm
    } catch (error) {
      return cleanup.closeAfter(error)
    }
  }

  /**
   * Makes a VM as it was saved by {@link MicroVm.state}, with guest memory as it was then. It goes on where it was when it is run,
   * with a VM generation ID of its own.
   * @param memory closed with the VM, and when this fails: mapped from a snapshot, or on demand
   * @param options the devices are those of the saved VM, in the same order; their host sides may be others
   * @throws MicroVmError ERR_MICROVM_STATE, DevicesError ERR_DEVICE_STATE for a state that does not fit, KvmError and
   *   SystemError for what the host lacks, and what the devices throw
   */
  static async restore(state: MicroVmState, memory: VmRam, options: RestoreOptions = {}): Promise<MicroVm> {
    const cleanup = new Cleanup()
    try {
      cleanup.add(memory)
      checkRanges(memory.memory, state)
      const kvm = cleanup.add(Kvm.open({ path: options.kvm ?? '/dev/kvm' }))
      const vm = new MicroVm({ kvm, ram: memory, cleanup, options, saved: state })
      await vm.#attach(options.devices ?? [])
      vm.#virtio.checkComplete(state.virtio.length)
      vm.#cpus.vcpus = restoreVcpus(vm.#vm, state, memory.memory)
      vm.#restoreGenerationId(state)
      return vm
    } catch (error) {
      return cleanup.closeAfter(error)
    }
  }

  private constructor({ kvm, ram, cleanup, options, saved }: Foundation) {
    const { memory } = ram
    const own = <T extends { close(): void }>(owner: T): T => cleanup.add(owner)
    const { vm, registers } = createKvmVm(kvm, { memory, saved: saved?.kvm, own })
    this.#kvm = kvm
    this.#vm = vm
    this.#cleanup = cleanup
    this.#events = options.events ?? {}
    this.ram = ram
    this.memory = memory
    this.#cpus = new VcpuGroup({ pio: this.pio, mmio: this.mmio, events: this.#events })
    this.#lines = new InterruptLines({ vm, own })
    this.#legacy = attachLegacyDevices(
      {
        pio: this.pio,
        memory,
        output: options.output,
        own,
        interrupt: (irq) => this.#lines.line(irq),
        stop: (end) => this.#cpus.stop(end),
        bootMarker: () => this.#events.bootMarker?.(),
      },
      saved?.legacy,
    )
    this.serial = this.#legacy.serial
    // A device that throws is the end of its own VM.
    const events = cleanup.add(new EventManager({ onError: (cause) => this.#cpus.stop(failedEnd(cause)) }))
    this.#virtio = new VirtioBus({ vm, memory, mmio: this.mmio, events, registers, own }, saved?.virtio)
    this.#standstill = new Standstill({
      cpus: this.#cpus,
      pauseDevices: async () => {
        await this.#virtio.pause()
        this.serial.flush()
      },
      resumeDevices: () => this.#resumeDevices(),
    })
  }

  /** Makes the VM generation ID, and describes all devices. After they are there. */
  #describe(): DsdtOptions {
    this.#generationId = GenerationId.create(this)
    return {
      devices: [...LEGACY_ACPI_DEVICES, ...this.#virtio.acpiDevices],
      generationId: this.#generationId.location,
    }
  }

  async #attach(devices: readonly AttachDevice[]): Promise<void> {
    const { ram } = this
    const host: DeviceHost = {
      memory: this.memory,
      virtio: this.#virtio,
      own: (owner) => this.#cleanup.add(owner),
      get discardsToZero() {
        return ram.discardsToZero
      },
      discard: (address, size) => ram.discard(address, size),
      beforeClose: (settle) => this.#settle.push(settle),
      warn: (message) => this.#events.warning?.(message),
    }
    for (const [index, attach] of devices.entries()) {
      if (typeof attach !== 'function') {
        const wanted = 'a function, such as (host) => host.virtio.attach(new Rng())'
        throw new MicroVmError('ERR_MICROVM_OPTION', `devices[${index}] is not ${wanted}`)
      }
      await attach(host)
    }
  }

  async #boot(settings: MicroVmSettings): Promise<void> {
    const { memory } = this
    const { cpus, discovery } = settings
    const { kernel, initrd } = await loadImages(memory, settings)
    const cmdline = Cmdline.from(settings.cmdline)
    await this.#attach(settings.devices)
    if (discovery !== 'acpi') this.#virtio.announce(cmdline)
    const bootState = configureBoot(memory, {
      kernel,
      initrd,
      cmdline,
      cpus,
      interrupts: this.#virtio.interrupts,
      acpi: discovery === 'cmdline' ? undefined : this.#describe(),
      rngSeed: randomBytes(64),
    })
    const cpuid = this.#kvm.supportedCpuid()
    this.#cpus.vcpus = Array.from({ length: cpus }, (_, index) =>
      // The others wait for INIT and SIPI, as KVM makes them.
      GuestVcpu.boot(this.#vm, {
        index,
        cpus,
        cpuid,
        bootState: index === 0 ? bootState : undefined,
        memory,
      }),
    )
  }

  #restoreGenerationId({ generationId }: MicroVmState): void {
    if (generationId === null) return
    const { memory } = this
    this.#generationId = GenerationId.restore(generationId, {
      memory,
      interrupt: (gsi) => this.#lines.line(gsi),
    })
  }

  /** Ends the VM from outside; what ended it before counts. Returns at once: {@link run} settles when it is over. */
  stop(reason: string): void {
    this.#cpus.stop({ kind: 'stopped', reason })
  }

  /**
   * Runs the vCPUs until something ends the VM. Each holds a thread of libuv's pool meanwhile, whether it runs or is paused: see
   * UV_THREADPOOL_SIZE. Once only; a VM that was refused can be run later.
   * @returns what ended it; what fails on the host's side is an end too, of the kind `failed`
   * @throws MicroVmError ERR_MICROVM_THREADS where there are too few threads for all vCPUs: none of them has run then;
   *   ERR_MICROVM_RUN_ONCE for a VM that runs, has run, or is closed
   */
  async run(): Promise<MicroVmEnd> {
    if (this.#phase !== 'made') {
      throw new MicroVmError('ERR_MICROVM_RUN_ONCE', 'a VM runs once: make another one')
    }
    this.#phase = 'running'
    let end: MicroVmEnd
    try {
      end = await this.#cpus.run(() => {
        this.ram.failed?.then((cause) => this.#cpus.stop(failedEnd(cause)))
        this.#resumeDevices()
      })
    } catch (error) {
      this.#phase = 'made'
      throw error
    }
    try {
      await this.#endDevices()
    } catch (error) {
      if (end.kind !== 'failed') end = failedEnd(error)
    }
    this.#phase = 'over'
    return end
  }

  async #endDevices(): Promise<void> {
    const paused = this.#virtio.pause()
    const settled = paused
      .catch(() => {})
      .then(() => allSettled(this.#settle.map(async (settle) => settle())))
    await allSettled([paused, settled])
    this.serial.flush()
  }

  /** A device that throws is the end of its own VM. */
  #resumeDevices(): void {
    try {
      this.#lines.release()
      this.#virtio.resume()
    } catch (error) {
      this.#cpus.stop(failedEnd(error))
    }
  }

  /**
   * Has all vCPUs come out of the guest, and all devices end what is under way: nothing changes guest memory or a device any
   * more. Idempotent.
   * @returns settles when that is so; where it rejects, the VM goes on
   * @throws MicroVmError ERR_MICROVM_NOT_RUNNING before {@link run}, and where the VM ends or has ended; ERR_MICROVM_NOT_PAUSED where
   *   {@link resume} is called before it has settled; and what a device throws
   */
  pause(): Promise<void> {
    return this.#standstill.pause()
  }

  /** Goes on after {@link pause}, or instead of it while that is under way. Idempotent. */
  resume(): void {
    this.#standstill.resume()
  }

  /**
   * All of the VM but its memory, which is to be saved at the same time. Plain data.
   * @throws MicroVmError ERR_MICROVM_NOT_PAUSED, and where the pause under way fails what that throws
   */
  state(): Promise<MicroVmState> {
    return this.#standstill.look(() => this.#save())
  }

  #save(): MicroVmState {
    const msrs = this.#kvm.msrIndexList()
    const { vcpus } = this.#cpus
    return {
      memory: this.memory.regions.map(({ start, size }) => ({ start, size })),
      vcpus: vcpus.map((vcpu) => saveVcpu(vcpu.kvm, msrs)),
      kvm: saveKvmVm(this.#vm, vcpus[0]?.kvm.getTscKhz() ?? 0),
      legacy: this.#legacy.state(),
      generationId: this.#generationId?.state() ?? null,
      virtio: this.#virtio.state(),
    }
  }

  /**
   * Frees everything. Idempotent.
   * @throws MicroVmError ERR_MICROVM_RUNNING while {@link run} is under way: {@link stop} the VM and wait for it
   */
  close(): void {
    if (this.#phase === 'running') {
      throw new MicroVmError(
        'ERR_MICROVM_RUNNING',
        'the VM runs: call stop, and close it when run has settled',
      )
    }
    this.#phase = 'over'
    this.#standstill.end()
    this.#cleanup.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}
