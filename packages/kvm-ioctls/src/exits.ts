/**
 * Why a vCPU came back, one type for each reason. The objects belong to the vCPU: the next run fills them anew, so that
 * a loop of exits makes no garbage. What guests wait for (`data` of reads, `data` and `error` of MSRs, `result` of calls) is written into
 * the object before that run: it lies in the page shared with the kernel.
 */

/** Every way in which a run ends. `switch` over `reason`. */
export type VcpuExit =
  | IoOutExit
  | IoInExit
  | MmioReadExit
  | MmioWriteExit
  | RdmsrExit
  | WrmsrExit
  | HypercallExit
  | XenHypercallExit
  | HypervExit
  | DebugExit
  | ExceptionExit
  | SystemEventExit
  | InternalErrorExit
  | FailEntryExit
  | MemoryFaultExit
  | IoapicEoiExit
  | TprAccessExit
  | NotifyExit
  | UnknownExit
  | UnsupportedExit
  | PlainExit

/** A write to ports. */
export interface IoOutExit {
  readonly reason: 'io-out'
  readonly port: number
  /** Bytes of one write: 1, 2 or 4. */
  readonly size: number
  /** How many writes, all to `port`: more than 1 for `rep outs`. */
  readonly count: number
  /** What was written, `size` times `count` bytes. */
  readonly data: DataView
  /** The first write's value. */
  readonly value: number
}

/** A read of ports. */
export interface IoInExit {
  readonly reason: 'io-in'
  readonly port: number
  /** Bytes of one read: 1, 2 or 4. */
  readonly size: number
  /** How many reads, all of `port`: more than 1 for `rep ins`. */
  readonly count: number
  /** To be filled with what is read, `size` times `count` bytes. */
  readonly data: DataView
  /** The first read's value; what does not fit `size` is cut off. */
  value: number
}

/** A read of memory where no slot is. */
export interface MmioReadExit {
  readonly reason: 'mmio-read'
  /** Guest-physical. */
  readonly address: number
  /** Bytes, 1 to 8: not always a power of two. */
  readonly size: number
  /** To be filled with what is read, `size` bytes. */
  readonly data: DataView
}

/** A write to memory where no slot is, or a read-only one. */
export interface MmioWriteExit {
  readonly reason: 'mmio-write'
  /** Guest-physical. */
  readonly address: number
  /** Bytes, 1 to 8: not always a power of two. */
  readonly size: number
  /** What was written, `size` bytes. */
  readonly data: DataView
}

/** A read of an MSR that KVM leaves to user space. */
export interface RdmsrExit {
  readonly reason: 'rdmsr'
  readonly index: number
  /** Why it came here: one of `KVM_MSR_EXIT_REASON_*`. */
  readonly cause: number
  /** To be set to what is read. */
  data: bigint
  /** Set to true, the guest gets a #GP instead. False at first. */
  error: boolean
}

/** A write of an MSR that KVM leaves to user space. */
export interface WrmsrExit {
  readonly reason: 'wrmsr'
  readonly index: number
  /** Why it came here: one of `KVM_MSR_EXIT_REASON_*`. */
  readonly cause: number
  /** What was written. */
  readonly data: bigint
  /** Set to true, the guest gets a #GP. False at first. */
  error: boolean
}

/** A hypercall that was asked for with KVM_CAP_EXIT_HYPERCALL. */
export interface HypercallExit {
  readonly reason: 'hypercall'
  readonly nr: bigint
  /** Six arguments. */
  readonly args: readonly bigint[]
  readonly longMode: boolean
  /** To be set to what the call returns. */
  result: bigint
}

/** A hypercall of a Xen guest. */
export interface XenHypercallExit {
  readonly reason: 'xen-hypercall'
  readonly longMode: boolean
  readonly cpl: number
  /** The call's number. */
  readonly input: bigint
  /** Six parameters. */
  readonly params: readonly bigint[]
  /** To be set to what the call returns. */
  result: bigint
}

/** Something of Hyper-V's interface that is left to user space. */
export interface HypervExit {
  readonly reason: 'hyperv'
  /** One of `KVM_EXIT_HYPERV_*`. */
  readonly type: number
  /** `struct kvm_hyperv_exit`, from `u` on, to be read and answered as its type says. */
  readonly data: DataView
}

/** A breakpoint or a step, under `Vcpu.setGuestDebug`. */
export interface DebugExit {
  readonly reason: 'debug'
  /** The exception's vector: `DB_VECTOR` or `BP_VECTOR`. */
  readonly exception: number
  /** Linear address of the instruction. */
  readonly pc: bigint
  readonly dr6: bigint
  readonly dr7: bigint
}

/** An exception of the guest. KVM on x86-64 keeps these to itself. */
export interface ExceptionExit {
  readonly reason: 'exception'
  /** The vector. */
  readonly exception: number
  readonly errorCode: number
}

/** The guest asked for something that is about the whole machine. */
export interface SystemEventExit {
  readonly reason: 'system-event'
  /** One of `KVM_SYSTEM_EVENT_*`. */
  readonly type: number
  /** Up to sixteen words that depend on `type`. */
  readonly data: readonly bigint[]
}

/** KVM cannot go on with this guest's state. */
export interface InternalErrorExit {
  readonly reason: 'internal-error'
  /** One of `KVM_INTERNAL_ERROR_*`. */
  readonly suberror: number
  /** Up to sixteen words that depend on `suberror`. */
  readonly data: readonly bigint[]
  /** The bytes at RIP that could not be emulated, up to 15, where KVM tells them; else empty. */
  readonly instruction: Uint8Array
}

/** The CPU refused to enter the guest. */
export interface FailEntryExit {
  readonly reason: 'fail-entry'
  /** The hardware's reason. */
  readonly hardwareReason: bigint
  /** The host CPU. */
  readonly cpu: number
}

/** Guest memory could not be had from its slot, for example because it is private and should be shared. */
export interface MemoryFaultExit {
  readonly reason: 'memory-fault'
  /** `KVM_MEMORY_EXIT_FLAG_*` */
  readonly flags: bigint
  /** Guest-physical. */
  readonly address: number
  /** Bytes. */
  readonly size: number
  /** `EFAULT`, or `EHWPOISON` for memory that has failed. */
  readonly code: 'EFAULT' | 'EHWPOISON'
}

/** The guest acknowledged an interrupt, with a split irqchip. */
export interface IoapicEoiExit {
  readonly reason: 'ioapic-eoi'
  readonly vector: number
}

/** An access of the task priority register, under `Vcpu.setTprAccessReporting`. */
export interface TprAccessExit {
  readonly reason: 'tpr-access'
  readonly rip: bigint
  readonly isWrite: boolean
}

/** The guest ran for too long without a window for events: KVM_CAP_X86_NOTIFY_VMEXIT. */
export interface NotifyExit {
  readonly reason: 'notify'
  /** `KVM_NOTIFY_*` */
  readonly flags: number
}

/** The hardware gave a reason that KVM does not know. */
export interface UnknownExit {
  readonly reason: 'unknown'
  readonly hardwareReason: bigint
}

/** A reason of KVM's that this package does not know. */
export interface UnsupportedExit {
  readonly reason: 'unsupported'
  /** `kvm_run.exit_reason` */
  readonly exitReason: number
}

/**
 * A run that ended without more to tell:
 *
 * - `hlt`: the guest halted, without an irqchip that could wake it;
 * - `shutdown`: a triple fault, the CPU has shut down;
 * - `interrupted`: {@link Vcpu.kick}, or {@link Vcpu.immediateExit}; nothing has happened to the guest;
 * - `intr`: KVM says that a signal was there;
 * - `nmi`: a non-maskable interrupt of the host;
 * - `irq-window`: the guest takes interrupts now, as {@link Vcpu.requestInterruptWindow} asked;
 * - `set-tpr`: the guest lowered its task priority, {@link Vcpu.cr8};
 * - `dirty-ring-full`: collect {@link Vcpu.dirtyRing};
 * - `bus-lock`: a lock across cache lines, with KVM_CAP_X86_BUS_LOCK_EXIT;
 * - `ap-reset-hold`: a SEV-ES guest waits for INIT;
 * - `watchdog`: a watchdog of the guest ran out.
 */
export interface PlainExit {
  readonly reason:
    | 'hlt'
    | 'shutdown'
    | 'interrupted'
    | 'intr'
    | 'nmi'
    | 'irq-window'
    | 'set-tpr'
    | 'dirty-ring-full'
    | 'bus-lock'
    | 'ap-reset-hold'
    | 'watchdog'
}
