import { describe, expect, test } from 'vitest'
import * as K from '../src/index.ts'
import { capability, closeAfterTest, memoryOnly, openKvm, realMode, skipWithoutKvm } from './harness.ts'

const error = (code: string) => expect.objectContaining({ code })

function newVcpu(irqchip = false): { kvm: K.Kvm; vm: K.Vm; vcpu: K.Vcpu } {
  const { kvm, vm } = memoryOnly()
  if (irqchip) vm.createIrqchip()
  return { kvm, vm, vcpu: closeAfterTest(vm.createVcpu(0)) }
}

describe.skipIf(skipWithoutKvm)('state that is set is got back:', () => {
  test('general-purpose registers', () => {
    const { vcpu } = newVcpu()
    const regs = vcpu.getRegs()
    const changed = { ...regs, rax: 0x8000_0000_0000_0001n, r15: 2n ** 64n - 1n, rip: 0x1234n }
    vcpu.setRegs(changed)
    expect(vcpu.getRegs()).toEqual(changed)
  })

  test('general-purpose registers in place', () => {
    const { vcpu } = newVcpu()
    const regs = K.kvm_regs.allocate()
    expect(vcpu.getRegs(regs)).toBe(regs)
    regs.rbx += 0x77n
    vcpu.setRegs(regs)
    expect(vcpu.getRegs().rbx).toBe(0x77n)
    expect(vcpu.getRegs()).toEqual(K.kvm_regs.fromJSON(regs.toJSON()))
  })

  test('a plain object is no place to fill', () => {
    const { vcpu } = newVcpu()
    expect(() => vcpu.getRegs(vcpu.getRegs())).toThrow(error('ERR_KVM_OUT_OF_RANGE'))
  })

  test('segments and control registers', () => {
    const { vcpu } = newVcpu()
    const sregs = vcpu.getSregs()
    const changed = { ...sregs, cr3: 0x5000n, fs: { ...sregs.fs, base: 0x1_2340n, selector: 0x1234 } }
    vcpu.setSregs(changed)
    expect(vcpu.getSregs()).toEqual(changed)
    expect(vcpu.getSregs(K.kvm_sregs.allocate()).fs.base).toBe(0x1_2340n)
  })

  test.skipIf(capability(K.KVM_CAP_SREGS2) === 0)('their second form (needs KVM_CAP_SREGS2)', () => {
    const { vcpu } = newVcpu()
    const sregs = { ...vcpu.getSregs2(), cr2: 0xabcn }
    vcpu.setSregs2(sregs)
    expect(vcpu.getSregs2()).toEqual(sregs)
  })

  test('x87 and SSE registers', () => {
    const { vcpu } = newVcpu()
    const fpu = { ...vcpu.getFpu(), fcw: 0x37f }
    const xmm = fpu.xmm.map((_, index) => new Uint8Array(16).fill(index))
    vcpu.setFpu({ ...fpu, xmm })
    expect(vcpu.getFpu()).toEqual({ ...fpu, xmm })
  })

  test('the XSAVE area, as long as KVM says', () => {
    const { vm, vcpu } = newVcpu()
    const area = vcpu.getXsave()
    expect(area.length).toBe(Math.max(4096, vm.checkExtension(K.KVM_CAP_XSAVE2)))
    // FCW, and the bit of XSTATE_BV that says that the x87 state counts.
    new DataView(area.buffer).setUint16(0, 0x27f, true)
    area[512] = (area[512] ?? 0) | 1
    vcpu.setXsave(area)
    expect(vcpu.getFpu().fcw).toBe(0x27f)
    expect(new DataView(vcpu.getXsave().buffer).getUint16(0, true)).toBe(0x27f)
    expect(() => vcpu.setXsave(area.subarray(1))).toThrow(error('ERR_KVM_OUT_OF_RANGE'))
  })

  test('extended control registers', () => {
    const { vcpu } = newVcpu()
    const xcrs = vcpu.getXcrs()
    expect(xcrs.nr_xcrs).toBeGreaterThan(0)
    vcpu.setXcrs(xcrs)
    expect(vcpu.getXcrs()).toEqual(xcrs)
  })

  test('debug registers', () => {
    const { vcpu } = newVcpu()
    const debugRegs = { ...vcpu.getDebugRegs(), db: [1n, 2n, 3n, 4n] }
    vcpu.setDebugRegs(debugRegs)
    expect(vcpu.getDebugRegs()).toEqual(debugRegs)
  })

  test('events', () => {
    const { vcpu } = newVcpu()
    const events = vcpu.getVcpuEvents()
    expect(events.exception.injected).toBe(0)
    vcpu.setVcpuEvents({ ...events, exception: { ...events.exception, injected: 1, nr: K.UD_VECTOR } })
    const { injected, nr } = vcpu.getVcpuEvents().exception
    expect([injected, nr]).toEqual([1, K.UD_VECTOR])
  })

  test('the local APIC, with an irqchip', () => {
    const { vcpu } = newVcpu(true)
    const lapic = vcpu.getLapic()
    expect(lapic.regs.length).toBe(K.KVM_APIC_REG_SIZE)
    const TPR = 0x80
    lapic.regs[TPR] = 0x20
    vcpu.setLapic(lapic)
    expect(vcpu.getLapic().regs[TPR]).toBe(0x20)
  })

  test('no local APIC without one', () => {
    const { vcpu } = newVcpu()
    expect(() => vcpu.getLapic()).toThrow(error('EINVAL'))
  })

  test('what it waits for', () => {
    const { vcpu } = newVcpu(true)
    expect(vcpu.getMpState()).toBe(K.KVM_MP_STATE_RUNNABLE)
    vcpu.setMpState(K.KVM_MP_STATE_HALTED)
    expect(vcpu.getMpState()).toBe(K.KVM_MP_STATE_HALTED)
  })

  test('MSRs, up to the first that KVM refuses', () => {
    const { vcpu, kvm } = newVcpu(true)
    const all = kvm.msrIndexList()
    const msrs = vcpu.getMsrs(all)
    expect(msrs.map(({ index }) => index)).toEqual(all)
    expect(vcpu.setMsrs(msrs)).toBe(all.length)

    const NONE = 0x9999_0000
    expect(vcpu.setMsrs([{ index: K.MSR_IA32_SYSENTER_CS, data: 0x10n }])).toBe(1)
    expect(vcpu.getMsrs([K.MSR_IA32_SYSENTER_CS, NONE, K.MSR_STAR])).toEqual([
      { index: K.MSR_IA32_SYSENTER_CS, data: 0x10n },
    ])
    const refused = [{ index: NONE, data: 0n }]
    expect(vcpu.setMsrs([{ index: K.MSR_IA32_SYSENTER_CS, data: 0x18n }, ...refused])).toBe(1)
    expect(() => vcpu.getMsrs(Array(K.KVM_MAX_IO_MSRS + 1).fill(0))).toThrow(error('ERR_KVM_OUT_OF_RANGE'))
  })

  test('CPUID leaves', () => {
    const { vcpu, kvm } = newVcpu()
    const entries = kvm.supportedCpuid().map((entry) => {
      return entry.function === 0x8000_0002 ? { ...entry, eax: 0x2041_4141 } : entry
    })
    vcpu.setCpuid2(entries)
    const got = vcpu.getCpuid2()
    expect(got.map((entry) => entry.function)).toEqual(entries.map((entry) => entry.function))
    expect(got.find((entry) => entry.function === 0x8000_0002)?.eax).toBe(0x2041_4141)
    expect(() => vcpu.getCpuid2(1)).toThrow(error('E2BIG'))
    expect(() => vcpu.getCpuid2(K.KVM_MAX_CPUID_ENTRIES + 1)).toThrow(error('ERR_KVM_OUT_OF_RANGE'))
    expect(() => vcpu.setCpuid2(Array(257).fill(entries[0]))).toThrow(error('ERR_KVM_OUT_OF_RANGE'))
  })

  test('the TSC frequency, where it can be set', () => {
    const { vm, vcpu } = newVcpu()
    const khz = vcpu.getTscKhz()
    expect(khz).toBeGreaterThan(0)
    if (vm.checkExtension(K.KVM_CAP_TSC_CONTROL) === 0) {
      expect(() => vcpu.setTscKhz(khz >> 1)).toThrow(error('EINVAL'))
    } else {
      vcpu.setTscKhz(khz >> 1)
      expect(vcpu.getTscKhz()).toBe(khz >> 1)
    }
  })

  test.skipIf(capability(K.KVM_CAP_VCPU_ATTRIBUTES) === 0)(
    'attributes (needs KVM_CAP_VCPU_ATTRIBUTES)',
    ({ skip }) => {
      const { vcpu } = newVcpu()
      const offset = BigInt(K.KVM_VCPU_TSC_OFFSET)
      expect(vcpu.hasAttribute(K.KVM_VCPU_TSC_CTRL, offset)).toBe(true)
      expect(vcpu.hasAttribute(K.KVM_VCPU_TSC_CTRL, 99n)).toBe(false)
      vcpu.setAttribute(K.KVM_VCPU_TSC_CTRL, offset, BigUint64Array.of(0x1234n))
      const word = new BigUint64Array(1)
      vcpu.getAttribute(K.KVM_VCPU_TSC_CTRL, offset, word)
      if (word[0] === 0n) skip('this KVM takes no TSC offset')
      expect(word[0]).toBe(0x1234n)
    },
  )

  test.skipIf(capability(K.KVM_CAP_NESTED_STATE) === 0)('nested state (needs KVM_CAP_NESTED_STATE)', () => {
    const { vcpu, kvm } = newVcpu()
    vcpu.setCpuid2(kvm.supportedCpuid())
    const state = vcpu.getNestedState()
    expect(state.length).toBeGreaterThanOrEqual(128)
    vcpu.setNestedState(state)
    expect(vcpu.getNestedState()).toEqual(state)
  })

  test('nested state that is shorter than it says is not handed over', () => {
    const { vcpu } = newVcpu()
    const state = new Uint8Array(128)
    new DataView(state.buffer).setUint32(4, 4096, true)
    expect(() => vcpu.setNestedState(state)).toThrow(error('ERR_KVM_OUT_OF_RANGE'))
    expect(() => vcpu.setNestedState(state.subarray(0, 7))).toThrow(error('ERR_KVM_OUT_OF_RANGE'))
  })

  test('registers by id, where KVM has any', () => {
    const { vcpu, vm } = newVcpu()
    if (vm.checkExtension(K.KVM_CAP_ONE_REG) === 0) return
    for (const id of vcpu.regList()) vcpu.setOneReg(id, vcpu.getOneReg(id))
    const id = K.KVM_REG_X86 | K.KVM_REG_SIZE_U64
    expect(() => vcpu.setOneReg(id, new Uint8Array(4))).toThrow(error('ERR_KVM_OUT_OF_RANGE'))
    expect(() => vcpu.getOneReg(id | 0xffffn)).toThrow(
      expect.objectContaining({ syscall: 'KVM_GET_ONE_REG' }),
    )
  })
})

describe.skipIf(skipWithoutKvm)('a vCPU', () => {
  test('takes an interrupt where there is no irqchip, and one that waits for a window', async () => {
    const CODE = [0xfb, 0x90, 0xeb, 0xfd] // sti; nop; jmp -1
    const { vcpu, memory } = realMode(CODE)
    memory.set([0x00, 0x30, 0x00, 0x00], 0x20 * 4)
    memory.set([0xe6, 0x20], 0x3000) // out 0x20, al
    vcpu.requestInterruptWindow = true
    expect((await vcpu.run()).reason).toBe('irq-window')
    expect([vcpu.readyForInterrupt, vcpu.interruptFlag]).toEqual([true, true])
    vcpu.requestInterruptWindow = false
    vcpu.interrupt(0x20)
    expect(await vcpu.run()).toMatchObject({ reason: 'io-out', port: 0x20 })
    expect(vcpu.interruptFlag).toBe(false)
  })

  test('takes an NMI', async () => {
    const { vcpu, memory } = realMode([0x90, 0xeb, 0xfd]) // nop; jmp -1
    const NMI_VECTOR = 2
    memory.set([0x00, 0x30, 0x00, 0x00], NMI_VECTOR * 4)
    memory.set([0xe6, NMI_VECTOR], 0x3000)
    vcpu.nmi()
    expect(await vcpu.run()).toMatchObject({ reason: 'io-out', port: NMI_VECTOR })
  })

  test.skipIf(capability(K.KVM_CAP_X86_SMM) === 0)('takes an SMI (needs KVM_CAP_X86_SMM)', () => {
    const { vcpu } = newVcpu()
    vcpu.smi()
    expect(vcpu.getVcpuEvents().smi.pending).toBe(1)
  })

  test('translates addresses: in real mode to themselves', () => {
    const { vcpu } = newVcpu()
    const result = vcpu.translate(0x1234n)
    expect(result).toMatchObject({ linear_address: 0x1234n, physical_address: 0x1234n, valid: 1 })
    expect(vcpu.translate(0x5678n)).toBe(result)
  })

  test('translates through page tables, and says where there is no page', () => {
    const { vcpu, memory } = realMode([])
    // Long mode: a table at each of three pages, the last with a page of 2 MiB, which maps 0x200000 to 0.
    const tables = new DataView(memory.buffer)
    tables.setBigUint64(0x4000, 0x5003n, true)
    tables.setBigUint64(0x5000, 0x6003n, true)
    tables.setBigUint64(0x6008, 0x83n, true)
    const sregs = vcpu.getSregs()
    const [PE_PG, PAE, LME_LMA] = [0x8000_0001n, 0x20n, 0x500n]
    const cs = { ...sregs.cs, type: 11, l: 1, g: 1, limit: 0xffff_ffff, selector: 8 }
    vcpu.setSregs({ ...sregs, cs, cr0: sregs.cr0 | PE_PG, cr3: 0x4000n, cr4: PAE, efer: LME_LMA })
    expect(vcpu.translate(0x20_1234n)).toMatchObject({ physical_address: 0x1234n, valid: 1 })
    expect(vcpu.translate(0x40_0000n)).toMatchObject({ valid: 0 })
  })

  test('has machine checks', () => {
    const { vcpu, kvm } = newVcpu()
    const MCG_CTL_P_AND_BANKS = 0x1ffn
    vcpu.setupMce((kvm.supportedMceCapabilities() & ~MCG_CTL_P_AND_BANKS) | 4n)
    const VALID_UNCORRECTED = 0xa000_0000_0000_0000n
    const mce = { status: VALID_UNCORRECTED, addr: 0n, misc: 0n, mcg_status: 0n, bank: 0 }
    vcpu.setMce(mce)
    expect(() => vcpu.setMce({ ...mce, bank: 200 })).toThrow(error('EINVAL'))
  })

  test('has switches of its own', () => {
    const { vcpu } = newVcpu(true)
    vcpu.setTprAccessReporting(true)
    vcpu.setTprAccessReporting(false)
    vcpu.setVapicAddress(0x2000)
    expect(() => vcpu.enableCap(0xffff)).toThrow(error('EINVAL'))
    // The guest has not said where its clock is.
    expect(() => vcpu.kvmclockCtrl()).toThrow(error('EINVAL'))
    vcpu.setSignalMask(undefined)
    vcpu.setSignalMask(0n)
  })

  test.skipIf(capability(K.KVM_CAP_BINARY_STATS_FD) === 0)(
    'has counters (needs KVM_CAP_BINARY_STATS_FD)',
    () => {
      expect(closeAfterTest(newVcpu().vcpu.openStats()).fd).toBeGreaterThan(0)
    },
  )

  test.skipIf(capability(K.KVM_CAP_HYPERV_CPUID) === 0)(
    'lists Hyper-V leaves (needs KVM_CAP_HYPERV_CPUID)',
    () => {
      expect(newVcpu().vcpu.supportedHypervCpuid().length).toBeGreaterThan(0)
      expect(openKvm().supportedHypervCpuid().length).toBeGreaterThan(0)
    },
  )
})

describe.skipIf(skipWithoutKvm || capability(K.KVM_CAP_SYNC_REGS) === 0)(
  'synced registers (needs KVM_CAP_SYNC_REGS)',
  () => {
    test('come with the exit, and go with the next run, without a request', async () => {
      const { vcpu } = realMode([0x90, 0xe6, 0x10, 0xe6, 0x20], { rax: 0x42n }) // nop; out 0x10, al; out 0x20, al
      expect([vcpu.syncValid, vcpu.syncDirty]).toEqual([0, 0])
      vcpu.syncValid = K.KVM_SYNC_X86_REGS | K.KVM_SYNC_X86_SREGS
      expect(await vcpu.run()).toMatchObject({ reason: 'io-out', port: 0x10, value: 0x42 })
      const { regs, sregs } = vcpu.syncRegs
      expect(regs.rax).toBe(0x42n)
      expect(sregs.cs.base).toBe(0n)

      regs.rax = 0x43n
      vcpu.syncDirty = K.KVM_SYNC_X86_REGS
      expect(await vcpu.run()).toMatchObject({ port: 0x20, value: 0x43 })
      expect(vcpu.syncDirty).toBe(0)
      expect(vcpu.getRegs().rax).toBe(0x43n)
    })

    test('stay as they are where they were not asked for', async () => {
      const { vcpu } = realMode([0xe6, 0x10, 0xe6, 0x20], { rax: 0x42n })
      vcpu.syncValid = 0
      vcpu.syncRegs.regs.rax = 0x99n
      await vcpu.run()
      expect(vcpu.syncRegs.regs.rax).toBe(0x99n)
      expect(await vcpu.run()).toMatchObject({ port: 0x20, value: 0x42 })
    })

    test('of a kind that there is not are refused', () => {
      const { vcpu } = realMode([0xe6, 0x10])
      vcpu.syncValid = 0x8000_0000
      expect(() => vcpu.runSync()).toThrow(error('EINVAL'))
      vcpu.syncValid = 0
      expect(vcpu.runSync().reason).toBe('io-out')
    })
  },
)
