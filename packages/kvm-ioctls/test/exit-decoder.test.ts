/** The exits that no guest here brings about: run pages as the kernel would leave them. */
import { describe, expect, test } from 'vitest'
import { ExitDecoder } from '../src/exit-decoder.ts'
import * as K from '../src/index.ts'
import * as structs from '../src/structs/run.ts'

const PAGE = 4096
const RUN_SIZE = 3 * PAGE

function page(reason: number): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(RUN_SIZE))
  structs.kvm_run.live(view, 0).exit_reason = reason
  return view
}

/** Sixteen words, as many exits carry. */
const WORDS = Array.from({ length: 16 }, (_, index) => BigInt(index + 1))

describe('a run page is read as', () => {
  test.each([
    [K.KVM_EXIT_HLT, 'hlt'],
    [K.KVM_EXIT_SHUTDOWN, 'shutdown'],
    [K.KVM_EXIT_INTR, 'intr'],
    [K.KVM_EXIT_NMI, 'nmi'],
    [K.KVM_EXIT_IRQ_WINDOW_OPEN, 'irq-window'],
    [K.KVM_EXIT_SET_TPR, 'set-tpr'],
    [K.KVM_EXIT_DIRTY_RING_FULL, 'dirty-ring-full'],
    [K.KVM_EXIT_X86_BUS_LOCK, 'bus-lock'],
    [K.KVM_EXIT_AP_RESET_HOLD, 'ap-reset-hold'],
    [K.KVM_EXIT_WATCHDOG, 'watchdog'],
  ])('exit %i: %s', (number, reason) => {
    expect(new ExitDecoder(page(number)).decode()).toEqual({ reason })
  })

  test('a system event with the words that count', () => {
    const view = page(K.KVM_EXIT_SYSTEM_EVENT)
    structs.kvm_run_system_event.set(view, 0, { type: K.KVM_SYSTEM_EVENT_CRASH, ndata: 2, data: WORDS }, '')
    expect(new ExitDecoder(view).decode()).toEqual({
      reason: 'system-event',
      type: K.KVM_SYSTEM_EVENT_CRASH,
      data: [1n, 2n],
    })
  })

  test('an internal error, with the instruction where there is one and never more than there is', () => {
    const view = page(K.KVM_EXIT_INTERNAL_ERROR)
    const failure = structs.kvm_run_emulation_failure.live(view, 0)
    failure.suberror = K.KVM_INTERNAL_ERROR_EMULATION
    failure.ndata = 4
    failure.flags = BigInt(K.KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)
    failure.insn_size = 2
    failure.insn_bytes.set([0x0f, 0x0b])
    const decoder = new ExitDecoder(view)
    expect(decoder.decode()).toMatchObject({ suberror: 1, instruction: Uint8Array.of(0x0f, 0x0b) })

    failure.insn_size = 200
    failure.ndata = 1000
    const cut = decoder.decode() as K.InternalErrorExit
    expect([cut.instruction.length, cut.data.length]).toEqual([15, 16])

    failure.flags = 0n
    expect(decoder.decode()).toMatchObject({ instruction: new Uint8Array(0) })
    failure.suberror = K.KVM_INTERNAL_ERROR_DELIVERY_EV
    failure.flags = 1n
    expect(decoder.decode()).toMatchObject({ suberror: 3, instruction: new Uint8Array(0) })
  })

  test('a failed entry', () => {
    const view = page(K.KVM_EXIT_FAIL_ENTRY)
    structs.kvm_run_fail_entry.set(view, 0, { hardware_entry_failure_reason: 0x8000_0021n, cpu: 3 }, '')
    expect(new ExitDecoder(view).decode()).toEqual({
      reason: 'fail-entry',
      hardwareReason: 0x8000_0021n,
      cpu: 3,
    })
  })

  test('an EOI, an exception, a notification, an access of the TPR, what the hardware said, and what nobody knows', () => {
    const eoi = page(K.KVM_EXIT_IOAPIC_EOI)
    structs.kvm_run_eoi.set(eoi, 0, { vector: 0x31 }, '')
    expect(new ExitDecoder(eoi).decode()).toEqual({ reason: 'ioapic-eoi', vector: 0x31 })

    const exception = page(K.KVM_EXIT_EXCEPTION)
    structs.kvm_run_ex.set(exception, 0, { exception: K.PF_VECTOR, error_code: 2 }, '')
    expect(new ExitDecoder(exception).decode()).toEqual({ reason: 'exception', exception: 14, errorCode: 2 })

    const notify = page(K.KVM_EXIT_NOTIFY)
    structs.kvm_run_notify.set(notify, 0, { flags: K.KVM_NOTIFY_CONTEXT_INVALID }, '')
    expect(new ExitDecoder(notify).decode()).toEqual({ reason: 'notify', flags: 1 })

    const tpr = page(K.KVM_EXIT_TPR_ACCESS)
    structs.kvm_run_tpr_access.set(tpr, 0, { rip: 0x1000n, is_write: 1 }, '')
    expect(new ExitDecoder(tpr).decode()).toEqual({ reason: 'tpr-access', rip: 0x1000n, isWrite: true })

    const unknown = page(K.KVM_EXIT_UNKNOWN)
    structs.kvm_run_hw.set(unknown, 0, { hardware_exit_reason: 77n }, '')
    expect(new ExitDecoder(unknown).decode()).toEqual({ reason: 'unknown', hardwareReason: 77n })

    for (const reason of [13, 200, 0xffff_ffff]) {
      expect(new ExitDecoder(page(reason)).decode()).toEqual({ reason: 'unsupported', exitReason: reason })
    }
  })

  test('a hypercall, answered in place', () => {
    const view = page(K.KVM_EXIT_HYPERCALL)
    const args = WORDS.slice(0, 6)
    structs.kvm_run_hypercall.set(view, 0, { nr: 12n, args, ret: 0n, longmode: 1 }, '')
    const exit = new ExitDecoder(view).decode() as K.HypercallExit
    expect(exit).toMatchObject({ nr: 12n, args, longMode: true })
    exit.result = -38n
    expect(structs.kvm_run_hypercall.get(view, 0).ret).toBe(2n ** 64n - 38n)
  })

  test('a Xen hypercall, answered in place', () => {
    const view = page(K.KVM_EXIT_XEN)
    const params = WORDS.slice(0, 6)
    const hcall = { longmode: 0, cpl: 1, input: 29n, result: 0n, params }
    structs.kvm_run_xen.set(view, 0, { type: K.KVM_EXIT_XEN_HCALL, u: { hcall } }, '')
    const exit = new ExitDecoder(view).decode() as K.XenHypercallExit
    expect(exit).toMatchObject({ longMode: false, cpl: 1, input: 29n, params })
    exit.result = 5n
    expect(structs.kvm_run_xen.get(view, 0).u.hcall.result).toBe(5n)
  })

  test("an exit of Hyper-V's, with its data in place", () => {
    const view = page(K.KVM_EXIT_HYPERV)
    structs.kvm_run_hyperv.set(view, 0, { type: K.KVM_EXIT_HYPERV_HCALL, u: WORDS.slice(0, 6) }, '')
    const exit = new ExitDecoder(view).decode() as K.HypervExit
    expect([exit.type, exit.data.getBigUint64(0, true), exit.data.byteLength]).toEqual([2, 1n, 48])
    exit.data.setBigUint64(8, 99n, true)
    expect(structs.kvm_run_hyperv.get(view, 0).u[1]).toBe(99n)
  })

  test('a memory fault, once, and only where KVM described one', () => {
    const view = page(K.KVM_EXIT_MEMORY_FAULT)
    structs.kvm_run_memory_fault.set(view, 0, { flags: 8n, gpa: 0x1_2345_6000, size: PAGE }, '')
    const decoder = new ExitDecoder(view)
    expect(decoder.memoryFault('EHWPOISON')).toEqual({
      reason: 'memory-fault',
      flags: BigInt(K.KVM_MEMORY_EXIT_FLAG_PRIVATE),
      address: 0x1_2345_6000,
      size: PAGE,
      code: 'EHWPOISON',
    })
    expect(decoder.memoryFault('EFAULT')).toBeUndefined()
    expect(new ExitDecoder(page(K.KVM_EXIT_IO)).memoryFault('EFAULT')).toBeUndefined()
  })

  test('port data of every length, without a view for each', () => {
    const view = page(K.KVM_EXIT_IO)
    const io = structs.kvm_run_io.live(view, 0)
    io.direction = K.KVM_EXIT_IO_OUT
    io.data_offset = PAGE
    io.size = 1
    const decoder = new ExitDecoder(view)
    const views = new Map<number, DataView>()
    for (const round of [1, 2]) {
      for (let count = 1; count <= PAGE; count++) {
        io.count = count
        const { data } = decoder.decode() as K.IoOutExit
        expect([data.byteLength, data.byteOffset]).toEqual([count, PAGE])
        if (round === 1) views.set(count, data)
        else if (count <= 8) expect(data).toBe(views.get(count))
      }
    }
  })
})
