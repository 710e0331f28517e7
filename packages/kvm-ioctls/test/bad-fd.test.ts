/** Whatever is asked of a closed object: the kernel says EBADF, and the process lives. */
import { describe, expect, test } from 'vitest'
import * as K from '../src/index.ts'
import { kvm_x86_mce } from '../src/structs/events.ts'
import { openKvm, skipWithoutKvm } from './harness.ts'

const EBADF = expect.objectContaining({ code: 'EBADF' })

/** Every method and getter of a class and of those it extends, but for those that make no request. */
function members(prototype: object, without: readonly string[]): string[] {
  const names: string[] = []
  for (let level = prototype; level !== Object.prototype; level = Object.getPrototypeOf(level)) {
    names.push(...Object.getOwnPropertyNames(level))
  }
  return [...new Set(names)].filter((name) => name !== 'constructor' && !without.includes(name))
}

type Calls = Readonly<Record<string, () => unknown>>

function check(prototype: object, calls: Calls, without: readonly string[]): void {
  expect(Object.keys(calls).sort()).toEqual(members(prototype, ['fd', 'closed', 'close', ...without]).sort())
  for (const call of Object.values(calls)) expect(call, String(call)).toThrow(EBADF)
}

describe.skipIf(skipWithoutKvm)('a closed', () => {
  test('Kvm', () => {
    const kvm = K.Kvm.open()
    kvm.close()
    const calls: Calls = {
      apiVersion: () => kvm.apiVersion,
      checkExtension: () => kvm.checkExtension(0),
      hasExtension: () => kvm.hasExtension(0),
      vcpuMmapSize: () => kvm.vcpuMmapSize,
      recommendedVcpus: () => kvm.recommendedVcpus,
      maxVcpus: () => kvm.maxVcpus,
      maxVcpuId: () => kvm.maxVcpuId,
      memorySlots: () => kvm.memorySlots,
      supportedCpuid: () => kvm.supportedCpuid(),
      emulatedCpuid: () => kvm.emulatedCpuid(),
      supportedHypervCpuid: () => kvm.supportedHypervCpuid(),
      msrIndexList: () => kvm.msrIndexList(),
      msrFeatureIndexList: () => kvm.msrFeatureIndexList(),
      getMsrs: () => kvm.getMsrs([0]),
      supportedMceCapabilities: () => kvm.supportedMceCapabilities(),
      createVm: () => kvm.createVm(),
    }
    check(K.Kvm.prototype, calls, [])
  })

  test('Vm', () => {
    const vm = openKvm().createVm()
    const pic = K.kvm_pic_state.allocate()
    vm.close()
    const calls: Calls = {
      checkExtension: () => vm.checkExtension(0),
      enableCap: () => vm.enableCap(0),
      setUserMemoryRegion: () =>
        vm.setUserMemoryRegion({ slot: 0, guestAddress: 0, size: 0, hostAddress: 0n }),
      setUserMemoryRegion2: () =>
        vm.setUserMemoryRegion2({ slot: 0, guestAddress: 0, size: 0, hostAddress: 0n }),
      createGuestMemfd: () => vm.createGuestMemfd(4096),
      setMemoryAttributes: () => vm.setMemoryAttributes(0, 4096, 0n),
      getDirtyLog: () => vm.getDirtyLog(0),
      clearDirtyLog: () => vm.clearDirtyLog(0, new K.DirtyBitmap(4096)),
      resetDirtyRings: () => vm.resetDirtyRings(),
      setTssAddress: () => vm.setTssAddress(0),
      setIdentityMapAddress: () => vm.setIdentityMapAddress(0),
      setBootCpuId: () => vm.setBootCpuId(0),
      createIrqchip: () => vm.createIrqchip(),
      getPic: () => vm.getPic(0),
      setPic: () => vm.setPic(0, pic),
      getIoapic: () => vm.getIoapic(),
      setIoapic: () => vm.setIoapic(K.kvm_ioapic_state.allocate()),
      setIrqLine: () => vm.setIrqLine(0, true),
      setIrqLineStatus: () => vm.setIrqLineStatus(0, true),
      signalMsi: () => vm.signalMsi({ addressLow: 0, data: 0 }),
      setGsiRouting: () => vm.setGsiRouting([]),
      registerIrqfd: () => vm.registerIrqfd(0, 0),
      unregisterIrqfd: () => vm.unregisterIrqfd(0, 0),
      registerIoEvent: () => vm.registerIoEvent(0, { space: 'pio', address: 0 }),
      unregisterIoEvent: () => vm.unregisterIoEvent(0, { space: 'pio', address: 0 }),
      registerCoalescedZone: () => vm.registerCoalescedZone({ space: 'pio', address: 0, size: 1 }),
      unregisterCoalescedZone: () => vm.unregisterCoalescedZone({ space: 'pio', address: 0, size: 1 }),
      createPit2: () => vm.createPit2(),
      getPit2: () => vm.getPit2(),
      setPit2: () => vm.setPit2(K.kvm_pit_state2.allocate()),
      setPitReinject: () => vm.setPitReinject(true),
      getClock: () => vm.getClock(),
      setClock: () => vm.setClock(K.kvm_clock_data.allocate()),
      setTscKhz: () => vm.setTscKhz(1),
      getTscKhz: () => vm.getTscKhz(),
      setMsrFilter: () => vm.setMsrFilter({ default: 'allow', ranges: [] }),
      setPmuEventFilter: () => vm.setPmuEventFilter({ action: 0, events: [] }),
      registerHypervEventfd: () => vm.registerHypervEventfd(0, 0),
      unregisterHypervEventfd: () => vm.unregisterHypervEventfd(0),
      setXenHvmConfig: () => vm.setXenHvmConfig(0, 0),
      sevCommand: () => vm.sevCommand(0, 0),
      encryptOp: () => vm.encryptOp(new Uint8Array(8)),
      registerEncryptedRegion: () => vm.registerEncryptedRegion(0n, 0),
      unregisterEncryptedRegion: () => vm.unregisterEncryptedRegion(0n, 0),
      openStats: () => vm.openStats(),
      createVcpu: () => vm.createVcpu(0),
      createDevice: () => vm.createDevice(0),
      hasDevice: () => vm.hasDevice(0),
    }
    check(K.Vm.prototype, calls, ['stop'])
  })

  test('Vcpu', async () => {
    const vm = openKvm().createVm()
    const vcpu = vm.createVcpu(0)
    vm.close()
    const regs = K.kvm_regs.allocate()
    const calls: Calls = {
      getRegs: () => vcpu.getRegs(),
      setRegs: () => vcpu.setRegs(regs),
      getSregs: () => vcpu.getSregs(),
      setSregs: () => vcpu.setSregs(K.kvm_sregs.allocate()),
      getSregs2: () => vcpu.getSregs2(),
      setSregs2: () => vcpu.setSregs2(K.kvm_sregs2.allocate()),
      getFpu: () => vcpu.getFpu(),
      setFpu: () => vcpu.setFpu(K.kvm_fpu.allocate()),
      getXsave: () => vcpu.getXsave(),
      setXsave: () => vcpu.setXsave(new Uint8Array(Math.max(4096, vcpu.descriptor.xsaveSize))),
      getXcrs: () => vcpu.getXcrs(),
      setXcrs: () => vcpu.setXcrs(K.kvm_xcrs.allocate()),
      getDebugRegs: () => vcpu.getDebugRegs(),
      setDebugRegs: () => vcpu.setDebugRegs(K.kvm_debugregs.allocate()),
      getMsrs: () => vcpu.getMsrs([0]),
      setMsrs: () => vcpu.setMsrs([]),
      getOneReg: () => vcpu.getOneReg(0n),
      setOneReg: () => vcpu.setOneReg(0n, new Uint8Array(1)),
      regList: () => vcpu.regList(),
      setCpuid2: () => vcpu.setCpuid2([]),
      getCpuid2: () => vcpu.getCpuid2(),
      supportedHypervCpuid: () => vcpu.supportedHypervCpuid(),
      enableCap: () => vcpu.enableCap(0),
      getTscKhz: () => vcpu.getTscKhz(),
      setTscKhz: () => vcpu.setTscKhz(0),
      getVcpuEvents: () => vcpu.getVcpuEvents(),
      setVcpuEvents: () => vcpu.setVcpuEvents(K.kvm_vcpu_events.allocate()),
      getMpState: () => vcpu.getMpState(),
      setMpState: () => vcpu.setMpState(0),
      interrupt: () => vcpu.interrupt(0),
      nmi: () => vcpu.nmi(),
      smi: () => vcpu.smi(),
      setupMce: () => vcpu.setupMce(0n),
      setMce: () => vcpu.setMce(kvm_x86_mce.allocate()),
      kvmclockCtrl: () => vcpu.kvmclockCtrl(),
      getLapic: () => vcpu.getLapic(),
      setLapic: () => vcpu.setLapic(K.kvm_lapic_state.allocate()),
      setTprAccessReporting: () => vcpu.setTprAccessReporting(true),
      setVapicAddress: () => vcpu.setVapicAddress(0),
      setGuestDebug: () => vcpu.setGuestDebug(K.kvm_guest_debug.allocate()),
      translate: () => vcpu.translate(0n),
      openStats: () => vcpu.openStats(),
      getNestedState: () => vcpu.getNestedState(),
      setNestedState: () => vcpu.setNestedState(new Uint8Array(128)),
      hasAttribute: () => vcpu.hasAttribute(0, 0n),
      setAttribute: () => vcpu.setAttribute(0, 0n),
      getAttribute: () => vcpu.getAttribute(0, 0n, new Uint8Array(8)),
      runSync: () => vcpu.runSync(),
      setSignalMask: () => vcpu.setSignalMask(0n),
    }
    const withoutRequest = [
      'descriptor',
      'running',
      'immediateExit',
      'syncRegs',
      'syncValid',
      'syncDirty',
      'requestInterruptWindow',
      'readyForInterrupt',
      'interruptFlag',
      'runFlags',
      'cr8',
      'coalescedRing',
      'dirtyRing',
    ]
    const tested = ['run', 'kick', 'kickRemote', 'completeExit', 'stop']
    check(K.Vcpu.prototype, calls, [...withoutRequest, ...tested])

    await expect(vcpu.run()).rejects.toEqual(EBADF)
    await vcpu.kick()
    await vcpu.stop()
    await expect(vcpu.run()).rejects.toMatchObject({ code: 'ERR_KVM_VCPU_STOPPED' })
    expect(() => vcpu.immediateExit).toThrow(TypeError)
    expect(() => vcpu.completeExit()).toThrow(TypeError)
    await expect(vcpu.kickRemote()).rejects.toThrow(TypeError)
  })

  test('Device', ({ skip }) => {
    const vm = openKvm().createVm()
    if (!vm.hasDevice(K.KVM_DEV_TYPE_VFIO)) {
      vm.close()
      skip('this KVM has no device')
    }
    const device = vm.createDevice(K.KVM_DEV_TYPE_VFIO)
    vm.close()
    expect(() => device.hasAttribute(0, 0n)).toThrow(EBADF)
    expect(() => device.setAttribute(0, 0n)).toThrow(EBADF)
    expect(() => device.getAttribute(0, 0n, new Uint8Array(8))).toThrow(EBADF)
  })
})
