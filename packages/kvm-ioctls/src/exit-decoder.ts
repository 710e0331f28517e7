/**
 * From the run page to the exit that it describes, without making an object: there is one exit of each kind, and one
 * DataView for each length of data.
 */
import * as reasons from './constants/exits.ts'
import {
  KVM_INTERNAL_ERROR_EMULATION,
  KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
} from './constants/exits.ts'
import type * as exits from './exits.ts'
import { size64 } from './layout/field.ts'
import * as structs from './structs/run.ts'

const EXIT_REASON = structs.kvm_run.offsetOf('exit_reason')
const IO_DIRECTION = structs.kvm_run_io.offsetOf('direction')
const IO_SIZE = structs.kvm_run_io.offsetOf('size')
const IO_PORT = structs.kvm_run_io.offsetOf('port')
const IO_COUNT = structs.kvm_run_io.offsetOf('count')
const IO_DATA_OFFSET = structs.kvm_run_io.offsetOf('data_offset')
const MMIO_ADDRESS = structs.kvm_run_mmio.offsetOf('phys_addr')
const MMIO_DATA = structs.kvm_run_mmio.offsetOf('data')
const MMIO_LENGTH = structs.kvm_run_mmio.offsetOf('len')
const MMIO_IS_WRITE = structs.kvm_run_mmio.offsetOf('is_write')
const HYPERV_DATA = structs.kvm_run_hyperv.offsetOf('u')
const INSTRUCTION_BYTES = structs.kvm_run_emulation_failure.offsetOf('insn_bytes')
const INSTRUCTION_BYTES_MAX = 15
const INTERNAL_DATA_MAX = 16

/** Strings of more bytes than this get a view of their own each time, so that a guest cannot make us keep thousands. */
const CACHED_VIEW_MAX = 64

/** DataViews of a part of the page, one for each length. */
class Views {
  readonly #page: DataView<ArrayBuffer>
  readonly #offset: number
  readonly #views: DataView[] = []

  constructor(page: DataView<ArrayBuffer>, offset: number) {
    this.#page = page
    this.#offset = offset
  }

  ofLength(length: number): DataView {
    const known = this.#views[length]
    if (known !== undefined) return known
    const view = new DataView(this.#page.buffer, this.#page.byteOffset + this.#offset, length)
    if (length <= CACHED_VIEW_MAX) {
      // Dense, so that it stays an array of objects: a hole would slow every look-up.
      while (this.#views.length < length) this.ofLength(this.#views.length)
      this.#views[length] = view
    }
    return view
  }
}

/** The mutable side of what the exits show read-only. */
type Mutable<T> = { -readonly [K in keyof T]: T[K] }

class IoExit {
  port = 0
  size = 0
  count = 0
  data: DataView
  readonly reason: string

  constructor(reason: string, data: DataView) {
    this.reason = reason
    this.data = data
  }

  get value(): number {
    if (this.size === 1) return this.data.getUint8(0)
    return this.size === 2 ? this.data.getUint16(0, true) : this.data.getUint32(0, true)
  }

  set value(value: number) {
    if (this.size === 1) this.data.setUint8(0, value)
    else if (this.size === 2) this.data.setUint16(0, value, true)
    else this.data.setUint32(0, value, true)
  }
}

class MsrExit {
  readonly reason: string
  readonly #live: ReturnType<typeof structs.kvm_run_msr.live>

  constructor(reason: string, page: DataView<ArrayBuffer>) {
    this.reason = reason
    this.#live = structs.kvm_run_msr.live(page, 0)
  }

  get index(): number {
    return this.#live.index
  }

  get cause(): number {
    return this.#live.reason
  }

  get data(): bigint {
    return this.#live.data
  }

  set data(data: bigint) {
    this.#live.data = data
  }

  get error(): boolean {
    return this.#live.error !== 0
  }

  set error(error: boolean) {
    this.#live.error = error ? 1 : 0
  }
}

function plain(reason: exits.PlainExit['reason']): exits.PlainExit {
  return { reason }
}

/** Reads one vCPU's run page. */
export class ExitDecoder {
  readonly #page: DataView<ArrayBuffer>
  readonly #mmioData: Views
  readonly #ioData: Map<number, Views> = new Map()

  readonly #ioOut: IoExit
  readonly #ioIn: IoExit
  readonly #mmioRead: Mutable<exits.MmioReadExit>
  readonly #mmioWrite: Mutable<exits.MmioWriteExit>
  readonly #rdmsr: exits.RdmsrExit
  readonly #wrmsr: exits.WrmsrExit
  readonly #memoryFault: Mutable<exits.MemoryFaultExit>
  readonly #plain: readonly (exits.PlainExit | undefined)[]

  /** The exit of a run that came back with EINTR. */
  readonly interrupted: exits.PlainExit = plain('interrupted')

  /** @param page the run page and what is mapped behind it */
  constructor(page: DataView<ArrayBuffer>) {
    this.#page = page
    this.#mmioData = new Views(page, MMIO_DATA)
    const empty = new DataView(page.buffer, page.byteOffset, 0)
    this.#ioOut = new IoExit('io-out', empty)
    this.#ioIn = new IoExit('io-in', empty)
    this.#mmioRead = { reason: 'mmio-read', address: 0, size: 0, data: empty }
    this.#mmioWrite = { reason: 'mmio-write', address: 0, size: 0, data: empty }
    this.#rdmsr = new MsrExit('rdmsr', page) as unknown as exits.RdmsrExit
    this.#wrmsr = new MsrExit('wrmsr', page) as unknown as exits.WrmsrExit
    this.#memoryFault = { reason: 'memory-fault', flags: 0n, address: 0, size: 0, code: 'EFAULT' }
    this.#plain = plainExits()
  }

  /** `kvm_run.exit_reason` */
  get exitReason(): number {
    return this.#page.getUint32(EXIT_REASON, true)
  }

  /** The exit of a run that came back with 0. */
  decode(): exits.VcpuExit {
    const reason = this.exitReason
    if (reason === reasons.KVM_EXIT_IO) return this.#io()
    if (reason === reasons.KVM_EXIT_MMIO) return this.#mmio()
    return this.#plain[reason] ?? this.#rare(reason)
  }

  /** The exit of a run that came back with EFAULT or EHWPOISON, where KVM described it. */
  memoryFault(code: exits.MemoryFaultExit['code']): exits.MemoryFaultExit | undefined {
    if (this.exitReason !== reasons.KVM_EXIT_MEMORY_FAULT) return undefined
    const { flags, gpa, size } = structs.kvm_run_memory_fault.get(this.#page, 0)
    const exit = this.#memoryFault
    exit.flags = flags
    exit.address = gpa
    exit.size = size
    exit.code = code
    // KVM sets the reason along with this errno only in kernels that know it: an old one must not be taken for new.
    this.#page.setUint32(EXIT_REASON, reasons.KVM_EXIT_UNKNOWN, true)
    return exit
  }

  #io(): exits.VcpuExit {
    const page = this.#page
    const out = page.getUint8(IO_DIRECTION) === reasons.KVM_EXIT_IO_OUT
    const exit = out ? this.#ioOut : this.#ioIn
    exit.port = page.getUint16(IO_PORT, true)
    exit.size = page.getUint8(IO_SIZE)
    exit.count = page.getUint32(IO_COUNT, true)
    exit.data = this.#ioView(size64.get(page, IO_DATA_OFFSET), exit.size * exit.count)
    return exit as unknown as exits.IoInExit | exits.IoOutExit
  }

  #ioView(offset: number, length: number): DataView {
    let views = this.#ioData.get(offset)
    if (views === undefined) {
      // KVM puts the data at one place for all: the page after the run page.
      views = new Views(this.#page, offset)
      this.#ioData.set(offset, views)
    }
    return views.ofLength(length)
  }

  #mmio(): exits.VcpuExit {
    const page = this.#page
    const exit = page.getUint8(MMIO_IS_WRITE) !== 0 ? this.#mmioWrite : this.#mmioRead
    exit.address = size64.get(page, MMIO_ADDRESS)
    exit.size = page.getUint32(MMIO_LENGTH, true)
    exit.data = this.#mmioData.ofLength(exit.size)
    return exit
  }

  #rare(reason: number): exits.VcpuExit {
    const page = this.#page
    switch (reason) {
      case reasons.KVM_EXIT_X86_RDMSR:
        return this.#rdmsr
      case reasons.KVM_EXIT_X86_WRMSR:
        return this.#wrmsr
      case reasons.KVM_EXIT_INTERNAL_ERROR:
        return this.#internalError()
      case reasons.KVM_EXIT_SYSTEM_EVENT: {
        const { type, ndata, data } = structs.kvm_run_system_event.get(page, 0)
        return { reason: 'system-event', type, data: data.slice(0, ndata) }
      }
      case reasons.KVM_EXIT_FAIL_ENTRY: {
        const { hardware_entry_failure_reason, cpu } = structs.kvm_run_fail_entry.get(page, 0)
        return { reason: 'fail-entry', hardwareReason: hardware_entry_failure_reason, cpu }
      }
      case reasons.KVM_EXIT_DEBUG: {
        const { exception, pc, dr6, dr7 } = structs.kvm_run_debug.get(page, 0).arch
        return { reason: 'debug', exception, pc, dr6, dr7 }
      }
      case reasons.KVM_EXIT_HYPERCALL:
        return hypercall(page)
      case reasons.KVM_EXIT_XEN:
        return xenHypercall(page)
      case reasons.KVM_EXIT_HYPERV: {
        const { type } = structs.kvm_run_hyperv.get(page, 0)
        const length = structs.kvm_run_hyperv.size - HYPERV_DATA
        return {
          reason: 'hyperv',
          type,
          data: new DataView(page.buffer, page.byteOffset + HYPERV_DATA, length),
        }
      }
      case reasons.KVM_EXIT_EXCEPTION: {
        const { exception, error_code } = structs.kvm_run_ex.get(page, 0)
        return { reason: 'exception', exception, errorCode: error_code }
      }
      case reasons.KVM_EXIT_IOAPIC_EOI:
        return { reason: 'ioapic-eoi', vector: structs.kvm_run_eoi.get(page, 0).vector }
      case reasons.KVM_EXIT_TPR_ACCESS: {
        const { rip, is_write } = structs.kvm_run_tpr_access.get(page, 0)
        return { reason: 'tpr-access', rip, isWrite: is_write !== 0 }
      }
      case reasons.KVM_EXIT_NOTIFY:
        return { reason: 'notify', flags: structs.kvm_run_notify.get(page, 0).flags }
      case reasons.KVM_EXIT_UNKNOWN: {
        const { hardware_exit_reason } = structs.kvm_run_hw.get(page, 0)
        return { reason: 'unknown', hardwareReason: hardware_exit_reason }
      }
      default:
        return { reason: 'unsupported', exitReason: reason }
    }
  }

  #internalError(): exits.InternalErrorExit {
    const page = this.#page
    const { suberror, ndata, data } = structs.kvm_run_internal.get(page, 0)
    const failure = structs.kvm_run_emulation_failure.get(page, 0)
    const hasBytes =
      suberror === KVM_INTERNAL_ERROR_EMULATION &&
      ndata > 0 &&
      (Number(failure.flags) & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) !== 0
    const length = hasBytes ? Math.min(failure.insn_size, INSTRUCTION_BYTES_MAX) : 0
    return {
      reason: 'internal-error',
      suberror,
      data: data.slice(0, Math.min(ndata, INTERNAL_DATA_MAX)),
      instruction: new Uint8Array(page.buffer, page.byteOffset + INSTRUCTION_BYTES, length),
    }
  }
}

function hypercall(page: DataView<ArrayBuffer>): exits.HypercallExit {
  const live = structs.kvm_run_hypercall.live(page, 0)
  return {
    reason: 'hypercall',
    nr: live.nr,
    args: live.args,
    longMode: live.longmode !== 0,
    get result() {
      return live.ret
    },
    set result(result) {
      live.ret = result
    },
  }
}

function xenHypercall(page: DataView<ArrayBuffer>): exits.XenHypercallExit {
  const live = structs.kvm_run_xen.live(page, 0).u.hcall
  return {
    reason: 'xen-hypercall',
    longMode: live.longmode !== 0,
    cpl: live.cpl,
    input: live.input,
    params: live.params,
    get result() {
      return live.result
    },
    set result(result) {
      live.result = result
    },
  }
}

/** The exits that carry nothing, by their numbers. */
function plainExits(): (exits.PlainExit | undefined)[] {
  const byNumber: (exits.PlainExit | undefined)[] = Array(reasons.KVM_EXIT_MEMORY_FAULT + 1).fill(undefined)
  byNumber[reasons.KVM_EXIT_HLT] = plain('hlt')
  byNumber[reasons.KVM_EXIT_SHUTDOWN] = plain('shutdown')
  byNumber[reasons.KVM_EXIT_INTR] = plain('intr')
  byNumber[reasons.KVM_EXIT_NMI] = plain('nmi')
  byNumber[reasons.KVM_EXIT_IRQ_WINDOW_OPEN] = plain('irq-window')
  byNumber[reasons.KVM_EXIT_SET_TPR] = plain('set-tpr')
  byNumber[reasons.KVM_EXIT_DIRTY_RING_FULL] = plain('dirty-ring-full')
  byNumber[reasons.KVM_EXIT_X86_BUS_LOCK] = plain('bus-lock')
  byNumber[reasons.KVM_EXIT_AP_RESET_HOLD] = plain('ap-reset-hold')
  byNumber[reasons.KVM_EXIT_WATCHDOG] = plain('watchdog')
  return byNumber
}
