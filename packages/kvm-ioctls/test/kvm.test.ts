import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import * as K from '../src/index.ts'
import { closeAfterTest, openKvm, skipWithoutKvm } from './harness.ts'

describe('opening KVM', () => {
  test('where there is no device is one clear error', () => {
    expect(() => K.Kvm.open({ path: '/dev/does-not-exist' })).toThrow(
      expect.objectContaining({
        code: 'ERR_KVM_NOT_FOUND',
        message: expect.stringContaining('/dev/does-not-exist'),
        cause: expect.objectContaining({ code: 'ENOENT' }),
      }),
    )
  })

  test.skipIf(process.getuid?.() === 0)(
    'without the right to is one clear error (root has every right)',
    () => {
      expect(() => K.Kvm.open({ path: '/dev/mem' })).toThrow(
        expect.objectContaining({ code: 'ERR_KVM_ACCESS_DENIED' }),
      )
    },
  )

  test('of a device that is not KVM says so', () => {
    expect(() => K.Kvm.open({ path: '/dev/null' })).toThrow(
      expect.objectContaining({ code: 'ERR_KVM_API_VERSION' }),
    )
  })
})

describe.skipIf(skipWithoutKvm)('/dev/kvm', () => {
  test('opens for this process alone, or for those it executes too', () => {
    const O_CLOEXEC = 0o2000000
    for (const closeOnExec of [true, false]) {
      const kvm = closeAfterTest(K.Kvm.open({ closeOnExec }))
      const [, flags = '0'] =
        /flags:\s*([0-7]+)/.exec(readFileSync(`/proc/self/fdinfo/${kvm.fd}`, 'latin1')) ?? []
      expect((Number.parseInt(flags, 8) & O_CLOEXEC) !== 0).toBe(closeOnExec)
    }
  })

  test('speaks version 12', () => {
    expect(openKvm().apiVersion).toBe(K.KVM_API_VERSION)
  })

  test('answers for capabilities: yes, no and a number', () => {
    const kvm = openKvm()
    expect(kvm.hasExtension(K.KVM_CAP_USER_MEMORY)).toBe(true)
    expect(kvm.hasExtension(0xffff)).toBe(false)
    expect(kvm.checkExtension(K.KVM_CAP_USER_MEMORY)).toBe(1)
    expect(kvm.checkExtension(K.KVM_CAP_NR_MEMSLOTS)).toBe(kvm.memorySlots)
  })

  test('has limits that fit together', () => {
    const kvm = openKvm()
    expect(kvm.vcpuMmapSize).toBeGreaterThanOrEqual(4096)
    expect(kvm.recommendedVcpus).toBeGreaterThanOrEqual(1)
    expect(kvm.maxVcpus).toBeGreaterThanOrEqual(kvm.recommendedVcpus)
    expect(kvm.maxVcpuId).toBeGreaterThanOrEqual(kvm.maxVcpus)
    expect(kvm.memorySlots).toBeGreaterThanOrEqual(32)
  })

  test('lists the CPUID leaves it supports and emulates', () => {
    const kvm = openKvm()
    const supported = kvm.supportedCpuid()
    expect(supported.length).toBeGreaterThan(0)
    expect(supported.length).toBeLessThanOrEqual(K.KVM_MAX_CPUID_ENTRIES)
    expect(supported.map((entry) => entry.function)).toContain(1)
    expect(kvm.emulatedCpuid().length).toBeGreaterThan(0)
  })

  test('refuses lists without room, with too little, and with more than there can be', () => {
    const kvm = openKvm()
    const outOfRange = expect.objectContaining({ code: 'ERR_KVM_OUT_OF_RANGE' })
    expect(() => kvm.supportedCpuid(0)).toThrow(outOfRange)
    expect(() => kvm.supportedCpuid(K.KVM_MAX_CPUID_ENTRIES + 1)).toThrow(outOfRange)
    expect(() => kvm.supportedCpuid(1)).toThrow(expect.objectContaining({ code: 'E2BIG' }))
    expect(() => kvm.emulatedCpuid(0)).toThrow(outOfRange)
  })

  test('lists the MSRs of a guest and of the host, and reads the latter', () => {
    const kvm = openKvm()
    expect(kvm.msrIndexList()).toContain(K.MSR_IA32_TSC)
    const features = kvm.msrFeatureIndexList()
    expect(features.length).toBeGreaterThan(0)
    expect(kvm.getMsrs(features).map(({ index }) => index)).toEqual(features)
  })

  test('makes VMs, also of an explicit type, and from a descriptor', () => {
    const kvm = openKvm()
    closeAfterTest(kvm.createVm())
    const vm = closeAfterTest(kvm.createVm(K.KVM_X86_DEFAULT_VM))
    expect(vm.checkExtension(K.KVM_CAP_USER_MEMORY)).toBe(1)
    expect(() => kvm.createVm(0xff)).toThrow(
      expect.objectContaining({ code: 'EINVAL', syscall: 'KVM_CREATE_VM' }),
    )
  })

  test('closes once, and answers EBADF after', () => {
    const kvm = K.Kvm.open()
    kvm.close()
    kvm.close()
    expect([kvm.closed, kvm.fd]).toEqual([true, -1])
    expect(() => kvm.apiVersion).toThrow(expect.objectContaining({ code: 'EBADF' }))
  })
})
