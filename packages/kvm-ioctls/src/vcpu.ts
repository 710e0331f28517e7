/**
 * One virtual CPU: runs, and is kicked out of them. Documentation/virt/kvm/api.rst, KVM_RUN and "The kvm_run structure".
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { closeFd, ioctlAsync, ioctlRaw, MAP_SHARED, Mapping, SystemError } from '@vmm/sys-util'
import { CoalescedRing } from './coalesced-ring.ts'
import { KVM_COALESCED_MMIO_PAGE_OFFSET, KVM_DIRTY_LOG_PAGE_OFFSET } from './constants/exits.ts'
import { KVM_RUN } from './constants/requests.ts'
import { DirtyRing } from './dirty-ring.ts'
import { KvmError } from './errors.ts'
import { ExitDecoder } from './exit-decoder.ts'
import type { MemoryFaultExit, VcpuExit } from './exits.ts'
import { request } from './handle.ts'
import {
  DEFAULT_KICK_SIGNAL,
  kickSignalMask,
  kicks,
  prepareKickSignal,
  retryDelays,
  signalRunners,
} from './kick-signal.ts'
import type { StructView } from './layout/struct.ts'
import { type RunUnderWay, runBegins, runEnds } from './process-end.ts'
import { kvm_signal_mask } from './structs/events.ts'
import { kvm_run, type SyncRegs } from './structs/run.ts'
import { giveThread, takeThread } from './thread-pool.ts'
import { VcpuState } from './vcpu-state.ts'

const PAGE_SIZE = 4096
const IMMEDIATE_EXIT = kvm_run.offsetOf('immediate_exit')

/** The kernel's signal sets have 64 bits, whatever glibc's have. */
const SIGSET_SIZE = 8

const EINTR = 4
const EAGAIN = 11
const EFAULT = 14
const EHWPOISON = 133

/** A vCPU as another thread of this process can get it: can be posted to a worker. */
export interface VcpuDescriptor {
  readonly fd: number
  /** {@link Kvm.vcpuMmapSize} */
  readonly mmapSize: number
  /** What KVM_CAP_XSAVE2 says of the VM; 0 where KVM lacks it. */
  readonly xsaveSize: number
  /** Bytes of its ring of dirty pages; 0 where that was not enabled for the VM. */
  readonly dirtyRingSize: number
}

/** What of a vCPU can be chosen. */
export interface VcpuOptions {
  /** The real-time signal that kicks it, 34 to 64. Its handler is replaced. Default 40. */
  readonly kickSignal?: number
}

/**
 * One virtual CPU.
 *
 * {@link run} leaves the JavaScript thread free; {@link runSync} blocks it, for those who give a vCPU a worker of its own. One
 * run at a time.
 */
export class Vcpu extends VcpuState {
  readonly #descriptor: VcpuDescriptor
  readonly #kickTarget: RunUnderWay & { mask: bigint | undefined }
  readonly #mapping: Mapping
  readonly #page: DataView<ArrayBuffer>
  readonly #pageBytes: Uint8Array<ArrayBuffer>
  readonly #decoder: ExitDecoder
  readonly #header: StructView<ReturnType<typeof kvm_run.get>>
  #coalescedRing: CoalescedRing | undefined
  #dirtyRing: DirtyRing | undefined

  #running = false
  #stopped = false
  #resolve: (exit: VcpuExit) => void = nothing
  #reject: (error: unknown) => void = nothing
  #kick: Promise<void> | undefined
  #kickDone: () => void = nothing

  private constructor(descriptor: VcpuDescriptor, owned: boolean, options: VcpuOptions) {
    super(descriptor.fd, owned, descriptor.xsaveSize)
    this.#descriptor = descriptor
    const signal = options.kickSignal ?? DEFAULT_KICK_SIGNAL
    this.#kickTarget = {
      fd: descriptor.fd,
      signal,
      mask: kickSignalMask(signal),
      exitAtOnce: () => this.#exitAtOnce(),
    }
    this.#mapping = new Mapping({ size: descriptor.mmapSize, fd: descriptor.fd, flags: MAP_SHARED })
    this.#page = new DataView(this.#mapping.view())
    this.#pageBytes = new Uint8Array(this.#page.buffer)
    this.#header = kvm_run.live(this.#page, 0)
    this.#decoder = new ExitDecoder(this.#page)
  }

  /** Takes over an open descriptor of a vCPU; where this throws, it is closed. */
  static fromFd(descriptor: VcpuDescriptor, options: VcpuOptions = {}): Vcpu {
    let vcpu: Vcpu | undefined
    try {
      vcpu = new Vcpu(descriptor, true, options)
      prepareKickSignal(vcpu.#kickTarget.signal)
      vcpu.setSignalMask(vcpu.#kickTarget.mask)
      return vcpu
    } catch (error) {
      if (vcpu === undefined) closeFd(descriptor.fd)
      else vcpu.close()
      throw error
    }
  }

  /**
   * A second object for a vCPU that another thread of this process has made: a worker gets `descriptor` posted and
   * runs it. {@link close} leaves the vCPU itself alone. Stop the worker before the VM is closed.
   * @param options as the vCPU was made with
   */
  static attach(descriptor: VcpuDescriptor, options: VcpuOptions = {}): Vcpu {
    return new Vcpu(descriptor, false, options)
  }

  /** What {@link attach} takes. */
  get descriptor(): VcpuDescriptor {
    return this.#descriptor
  }

  // Runs

  /**
   * Runs the guest on a thread of libuv's pool until something is left to this process.
   * @returns the reason: an object that the next run fills anew
   * @throws KvmError ERR_KVM_VCPU_RUNNING where a run is under way, ERR_KVM_VCPU_STOPPED after {@link stop},
   *   ERR_KVM_THREADPOOL_EXHAUSTED where runs hold all threads
   * @throws SystemError where KVM refuses
   */
  run(): Promise<VcpuExit> {
    return new Promise(this.#start)
  }

  /**
   * Runs the guest on this very thread, which does nothing else until something is left to this process.
   * @returns the reason: an object that the next run fills anew
   */
  runSync(): VcpuExit {
    this.#checkIdle()
    for (;;) {
      const result = ioctlRaw(this.fd, KVM_RUN)
      const exit = this.#outcome(result)
      if (exit !== undefined) return exit
    }
  }

  /** Whether a run that {@link run} started is under way. */
  get running(): boolean {
    return this.#running
  }

  /**
   * Has the next run end at once, as `interrupted`, after what is left of the exit at hand has been done to the guest. The
   * run takes it back: it is good for one.
   */
  get immediateExit(): boolean {
    return this.#header.immediate_exit !== 0
  }

  set immediateExit(immediateExit: boolean) {
    this.#header.immediate_exit = immediateExit ? 1 : 0
  }

  /**
   * Does to the guest what is left of the exit at hand, for example puts the data of a read into its register, and
   * runs no further. State is to be saved after this.
   * @returns `interrupted`; another exit where the instruction at hand is not through, as of `rep ins`: to be handled
   *   like any, and then again
   */
  completeExit(): VcpuExit {
    this.immediateExit = true
    return this.runSync()
  }

  // Kicks

  /**
   * Ends the run that is under way. Where there is none nothing happens: the next run is not ended. (Say to the
   * loop around `run` what it shall do before you kick, and nothing gets lost.)
   *
   * The kicked run ends as `interrupted`, or otherwise where it was about to end anyway. No other vCPU is told: where
   * a signal hits one, it goes on.
   * @returns settles after the run has
   */
  kick(): Promise<void> {
    if (!this.#running) return Promise.resolve()
    if (this.#kick === undefined) {
      this.#kick = new Promise((resolve) => {
        this.#kickDone = resolve
      })
      this.#exitAtOnce()
      kicks.add(this.#kickTarget)
    }
    return this.#kick
  }

  /**
   * Ends the run that another thread of this process has under way by {@link runSync}, or else its next one. Say to its
   * loop what it shall do before, by Atomics, and nothing gets lost. A loop that has ended on being told has no next run:
   * give up by `signal` when it says so.
   * @param signal gives up waiting; default never
   * @returns settles once the run has ended
   */
  async kickRemote(signal?: AbortSignal): Promise<void> {
    Atomics.store(this.#pageBytes, IMMEDIATE_EXIT, 1)
    for (const delayMs of retryDelays()) {
      if (this.closed || Atomics.load(this.#pageBytes, IMMEDIATE_EXIT) === 0) return
      signalRunners([this.#kickTarget])
      await sleep(delayMs, undefined, { signal })
    }
  }

  /**
   * Says which signals are blocked during runs, instead of the mask that kicks need: all but {@link VcpuOptions.kickSignal}.
   * @param mask bit n-1 for signal n; undefined for the thread's own mask. Kicks work as long as it lets their signal
   *   through, and as long as no other object for this vCPU relies on another mask.
   */
  setSignalMask(mask: bigint | undefined): void {
    if (mask === undefined) {
      request(this, 'KVM_SET_SIGNAL_MASK', 0)
    } else {
      const argument = new DataView(new ArrayBuffer(kvm_signal_mask.size + SIGSET_SIZE))
      kvm_signal_mask.set(argument, 0, { len: SIGSET_SIZE }, 'signal mask')
      argument.setBigUint64(kvm_signal_mask.size, mask, true)
      request(this, 'KVM_SET_SIGNAL_MASK', argument)
    }
    this.#kickTarget.mask = mask
  }

  // The run page

  /**
   * Registers that travel in the run page, in place: KVM_CAP_SYNC_REGS. After a run those are good that {@link syncValid}
   * asked for; before one, those written are to be named in {@link syncDirty}.
   */
  get syncRegs(): SyncRegs {
    return this.#header.s.regs
  }

  /** Which registers a run leaves in the page: `KVM_SYNC_X86_*`. */
  get syncValid(): number {
    return Number(this.#header.kvm_valid_regs)
  }

  set syncValid(fields: number) {
    this.#header.kvm_valid_regs = BigInt(fields)
  }

  /** Which registers the next run takes from the page: `KVM_SYNC_X86_*`. The run sets it back to 0. */
  get syncDirty(): number {
    return Number(this.#header.kvm_dirty_regs)
  }

  set syncDirty(fields: number) {
    this.#header.kvm_dirty_regs = BigInt(fields)
  }

  /** Has runs end as `irq-window` as soon as the guest can take an interrupt; for those without an irqchip. */
  get requestInterruptWindow(): boolean {
    return this.#header.request_interrupt_window !== 0
  }

  set requestInterruptWindow(request: boolean) {
    this.#header.request_interrupt_window = request ? 1 : 0
  }

  /** Whether {@link interrupt} may be called; as of the last exit. */
  get readyForInterrupt(): boolean {
    return this.#header.ready_for_interrupt_injection !== 0
  }

  /** Whether the guest's RFLAGS.IF is set; as of the last exit. */
  get interruptFlag(): boolean {
    return this.#header.if_flag !== 0
  }

  /** `KVM_RUN_X86_*`; as of the last exit. */
  get runFlags(): number {
    return this.#header.flags
  }

  /** The task priority, CR8, for those without an irqchip: as of the last exit, and for the next run. */
  get cr8(): bigint {
    return this.#header.cr8
  }

  set cr8(cr8: bigint) {
    this.#header.cr8 = cr8
  }

  // Rings

  /**
   * The VM's ring of writes kept back: {@link Vm.registerCoalescedZone}.
   * @throws KvmError ERR_KVM_NO_RING where KVM_CAP_COALESCED_MMIO is missing
   */
  get coalescedRing(): CoalescedRing {
    if (this.#coalescedRing === undefined) {
      const offset = KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_SIZE
      if (this.#mapping.size < offset + PAGE_SIZE) {
        throw new KvmError('ERR_KVM_NO_RING', 'this KVM does not map a ring of coalesced writes')
      }
      this.#coalescedRing = new CoalescedRing(new DataView(this.#page.buffer, offset, PAGE_SIZE))
    }
    return this.#coalescedRing
  }

  /**
   * The ring of pages that this vCPU has written.
   * @throws KvmError ERR_KVM_NO_RING unless KVM_CAP_DIRTY_LOG_RING, or its ACQ_REL form, was enabled before the vCPU was made
   */
  get dirtyRing(): DirtyRing {
    if (this.#dirtyRing === undefined) {
      const { dirtyRingSize: size } = this.#descriptor
      // KVM maps the ring of a VM that has none, and the first look at it ends the process with SIGBUS.
      if (size === 0)
        throw new KvmError('ERR_KVM_NO_RING', 'KVM_CAP_DIRTY_LOG_RING was not enabled for the VM')
      const offset = KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE
      this.#dirtyRing = new DirtyRing(new Mapping({ size, fd: this.fd, flags: MAP_SHARED, offset }))
    }
    return this.#dirtyRing
  }

  // The end

  /**
   * Unmaps the run page and closes the descriptor. Idempotent.
   * @throws KvmError ERR_KVM_VCPU_RUNNING during a run: {@link stop} then
   */
  override close(): void {
    if (this.closed) return
    this.#checkIdle()
    this.#dirtyRing?.close()
    this.#mapping.close()
    super.close()
  }

  /** Ends the run that is under way, if any, and closes. From now on {@link run} rejects. Idempotent. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.kick()
    this.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  #checkIdle(): void {
    if (this.#running) throw new KvmError('ERR_KVM_VCPU_RUNNING', 'the vCPU is in KVM_RUN')
  }

  // Made once, so that a run allocates nothing but its promise.
  readonly #start = (resolve: (exit: VcpuExit) => void, reject: (error: unknown) => void): void => {
    this.#checkIdle()
    // The loop around run() goes on when the run has ended, before stop() does, which must not find another.
    if (this.#stopped) throw new KvmError('ERR_KVM_VCPU_STOPPED', 'the vCPU has been stopped')
    const counted = takeThread(this)
    this.#running = true
    runBegins(this.#kickTarget)
    this.#resolve = resolve
    this.#reject = reject
    if (counted === undefined) this.#submit()
    else counted.then(this.#submit, this.#refuse)
  }

  readonly #submit = (): void => {
    try {
      ioctlAsync(this.fd, KVM_RUN, 0, this.#returned)
    } catch (error) {
      giveThread(this)
      this.#refuse(error)
    }
  }

  readonly #refuse = (error: unknown): void => {
    this.#settle()
    this.#reject(error)
  }

  readonly #returned = (result: number): void => {
    let exit: VcpuExit | undefined
    try {
      exit = this.#outcome(result)
    } catch (error) {
      giveThread(this)
      this.#refuse(error)
      return
    }
    if (exit === undefined) {
      this.#submit()
      return
    }
    giveThread(this)
    this.#settle()
    this.#resolve(exit)
  }

  /** The run is over, and those who kicked are told: after those who wait for the run. */
  #settle(): void {
    this.#running = false
    runEnds(this.#kickTarget)
    if (this.#kick === undefined) return
    kicks.delete(this.#kickTarget)
    this.#kick = undefined
    queueMicrotask(this.#kickDone)
  }

  /**
   * What a return of KVM_RUN means; undefined: go on. That is EINTR which nobody here asked for, from a kick that was
   * for another vCPU on this thread, and EAGAIN, from a vCPU that has been woken and has to look again.
   */
  #outcome(result: number): VcpuExit | undefined {
    const asked = !this.closed && this.#takeImmediateExit()
    if (result === 0) return this.#decoder.decode()
    if (result === -EINTR || result === -EAGAIN) return asked ? this.#decoder.interrupted : undefined
    const fault = this.#memoryFault(result)
    if (fault !== undefined) return fault
    throw new SystemError('KVM_RUN', -result, `fd ${this.fd}`)
  }

  #memoryFault(result: number): MemoryFaultExit | undefined {
    if (result === -EFAULT) return this.#decoder.memoryFault('EFAULT')
    return result === -EHWPOISON ? this.#decoder.memoryFault('EHWPOISON') : undefined
  }

  /** Before the signal: a thread that has not entered the guest yet finds this, one that has is hit by the signal. */
  #exitAtOnce(): void {
    Atomics.store(this.#pageBytes, IMMEDIATE_EXIT, 1)
  }

  /** Takes the wish for an immediate exit back. By Atomics: what its maker wrote before is to be seen after. */
  #takeImmediateExit(): boolean {
    if (this.#pageBytes[IMMEDIATE_EXIT] === 0) return false
    Atomics.store(this.#pageBytes, IMMEDIATE_EXIT, 0)
    return true
  }
}

function nothing(): void {}
