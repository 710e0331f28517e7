/** Guest writes that do not end runs: dirty pages, and writes that are kept back. */
import { Mapping } from '@vmm/sys-util'
import { describe, expect, test } from 'vitest'
import * as K from '../src/index.ts'
import {
  CODE_ADDRESS,
  capability,
  closeAfterTest,
  enterRealMode,
  expectExit,
  memoryOnly,
  realMode,
  skipWithoutKvm,
} from './harness.ts'

const PAGE = 4096
const HLT = 0xf4

// biome-ignore format: one instruction a line
const WRITE_PAGES = [
  0xc6, 0x06, 0x00, 0x20, 0x11, // mov byte [0x2000], 0x11
  0xc6, 0x06, 0xff, 0x5f, 0x22, // mov byte [0x5fff], 0x22
  HLT,
]
const WRITTEN = [0x2, 0x5]

function pages(bitmap: K.DirtyBitmap): number[] {
  const list: number[] = []
  bitmap.forEach((page) => {
    list.push(page)
  })
  return list
}

describe('a bitmap of pages', () => {
  test('marks, tells, counts and lists', () => {
    const bitmap = new K.DirtyBitmap(100 * PAGE + 1)
    expect([bitmap.pages, bitmap.words.length]).toEqual([101, 4])
    for (const page of [0, 31, 32, 63, 100]) bitmap.add(page)
    expect(pages(bitmap)).toEqual([0, 31, 32, 63, 100])
    expect([bitmap.has(31), bitmap.has(30), bitmap.has(5000), bitmap.count]).toEqual([true, false, false, 5])
  })
})

describe.skipIf(skipWithoutKvm)('the dirty log', () => {
  test('has exactly the pages that were written, once', async () => {
    const { vm, vcpu } = realMode(WRITE_PAGES, {}, K.KVM_MEM_LOG_DIRTY_PAGES)
    vm.getDirtyLog(0)
    expectExit(await vcpu.run(), 'hlt')
    expect(pages(vm.getDirtyLog(0))).toEqual(WRITTEN)
    expect(pages(vm.getDirtyLog(0))).toEqual([])
  })

  test('fills a bitmap that is large enough, and no other', () => {
    const { vm } = memoryOnly(K.KVM_MEM_LOG_DIRTY_PAGES)
    const bitmap = new K.DirtyBitmap(64 * PAGE)
    expect(vm.getDirtyLog(0, bitmap)).toBe(bitmap)
    expect(() => vm.getDirtyLog(0, new K.DirtyBitmap(15 * PAGE))).toThrow(
      expect.objectContaining({ code: 'ERR_KVM_OUT_OF_RANGE' }),
    )
  })

  test('is there for slots with the flag alone', () => {
    const { vm } = memoryOnly()
    expect(() => vm.getDirtyLog(0)).toThrow(expect.objectContaining({ code: 'ENOENT' }))
    expect(() => vm.getDirtyLog(7)).toThrow(expect.objectContaining({ code: 'ENOENT' }))
  })

  test.skipIf(capability(K.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) === 0)(
    'keeps pages until they are cleared (needs KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)',
    async () => {
      const { vm, vcpu } = realMode(WRITE_PAGES)
      vm.enableCap(K.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, { args: [K.KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE] })
      const mapping = closeAfterTest(new Mapping({ size: 64 * PAGE }))
      const region = { slot: 0, guestAddress: 0, size: 0, hostAddress: mapping.address }
      vm.setUserMemoryRegion(region)
      vm.setUserMemoryRegion({ ...region, size: 64 * PAGE, flags: K.KVM_MEM_LOG_DIRTY_PAGES })
      new Uint8Array(mapping.view()).set(WRITE_PAGES, CODE_ADDRESS)
      expectExit(await vcpu.run(), 'hlt')
      expect(pages(vm.getDirtyLog(0))).toEqual(expect.arrayContaining(WRITTEN))
      const bitmap = vm.getDirtyLog(0)
      expect(pages(bitmap)).toEqual(expect.arrayContaining(WRITTEN))
      vm.clearDirtyLog(0, bitmap)
      expect(pages(vm.getDirtyLog(0))).toEqual([])
      expect(() => vm.clearDirtyLog(0, bitmap, 0, 65)).toThrow(
        expect.objectContaining({ code: 'ERR_KVM_OUT_OF_RANGE' }),
      )
    },
  )
})

const RINGS = [K.KVM_CAP_DIRTY_LOG_RING_ACQ_REL, K.KVM_CAP_DIRTY_LOG_RING].filter(
  (number) => capability(number) > 0,
)

describe.skipIf(RINGS.length === 0)('the dirty ring (needs KVM_CAP_DIRTY_LOG_RING)', () => {
  const RING_SIZE = 16 * PAGE

  test.each(RINGS)(
    'has exactly the pages that were written, until they are reset: capability %i',
    async (ring) => {
      const { kvm } = memoryOnly()
      const vm = closeAfterTest(kvm.createVm())
      vm.enableCap(ring, { args: [RING_SIZE] })
      const mapping = closeAfterTest(new Mapping({ size: 16 * PAGE }))
      vm.setUserMemoryRegion({
        slot: 3,
        flags: K.KVM_MEM_LOG_DIRTY_PAGES,
        guestAddress: 0,
        size: 16 * PAGE,
        hostAddress: mapping.address,
      })
      new Uint8Array(mapping.view()).set([...WRITE_PAGES, ...WRITE_PAGES], CODE_ADDRESS)
      const vcpu = closeAfterTest(vm.createVcpu(0))
      enterRealMode(vcpu)

      const collect = (): number[][] => {
        const found: number[][] = []
        while (vcpu.dirtyRing.next()) found.push([vcpu.dirtyRing.slot, vcpu.dirtyRing.page])
        return found.sort(([, a = 0], [, b = 0]) => a - b)
      }
      expectExit(await vcpu.run(), 'hlt')
      expect(collect()).toEqual(WRITTEN.map((page) => [3, page]))
      expect(collect()).toEqual([])
      expect(vm.resetDirtyRings()).toBe(WRITTEN.length)
      expect(vm.resetDirtyRings()).toBe(0)
      expectExit(await vcpu.run(), 'hlt')
      expect(collect()).toEqual(WRITTEN.map((page) => [3, page]))
    },
  )
})

describe.skipIf(skipWithoutKvm)('a ring that the VM does not have', () => {
  test('is refused', () => {
    const { vm } = memoryOnly()
    const vcpu = closeAfterTest(vm.createVcpu(0))
    expect(() => vcpu.dirtyRing).toThrow(expect.objectContaining({ code: 'ERR_KVM_NO_RING' }))
    const { descriptor } = vcpu
    const small = closeAfterTest(K.Vcpu.attach({ ...descriptor, mmapSize: PAGE }))
    expect(() => small.coalescedRing).toThrow(expect.objectContaining({ code: 'ERR_KVM_NO_RING' }))
  })
})

describe.skipIf(skipWithoutKvm)('writes that are kept back', () => {
  test.skipIf(capability(K.KVM_CAP_COALESCED_PIO) === 0)(
    'to ports do not end the run, and are in the ring (needs KVM_CAP_COALESCED_PIO)',
    async () => {
      const { vm, vcpu } = realMode([0xe6, 0x10, 0xe7, 0x11, HLT], { rax: 0x1234n }) // out 0x10, al; out 0x11, ax; hlt
      const zone = { space: 'pio', address: 0x10, size: 4 } as const
      vm.registerCoalescedZone(zone)
      expectExit(await vcpu.run(), 'hlt')
      const ring = vcpu.coalescedRing
      expect(ring.next()).toBe(true)
      expect([ring.space, ring.address, ring.data.byteLength, ring.data.getUint8(0)]).toEqual([
        'pio',
        0x10,
        1,
        0x34,
      ])
      expect(ring.next()).toBe(true)
      expect([ring.address, ring.data.byteLength, ring.data.getUint16(0, true)]).toEqual([0x11, 2, 0x1234])
      expect(ring.next()).toBe(false)

      vm.unregisterCoalescedZone(zone)
      vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE_ADDRESS) })
      expectExit(await vcpu.run(), 'io-out')
    },
  )

  test.skipIf(capability(K.KVM_CAP_COALESCED_MMIO) === 0)(
    'to memory are in the ring, in order, also when it wraps (needs KVM_CAP_COALESCED_MMIO)',
    async () => {
      // biome-ignore format: one instruction a line
      const { vm, vcpu } = realMode([
        0xb8, 0x00, 0xf0, // mov ax, 0xf000
        0x8e, 0xd8, // mov ds, ax
        0xb9, 0x64, 0x00, // mov cx, 100
        0x66, 0x89, 0x0e, 0x20, 0x00, // mov [0x20], ecx
        0xe2, 0xf9, // loop -7
        HLT,
      ])
      vm.registerCoalescedZone({ space: 'mmio', address: 0xf_0000, size: PAGE })
      const ring = vcpu.coalescedRing
      for (let round = 0; round < 4; round++) {
        vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE_ADDRESS), rcx: 0n })
        expectExit(await vcpu.run(), 'hlt')
        for (let value = 100; value > 0; value--) {
          expect(ring.next()).toBe(true)
          expect([ring.space, ring.address, ring.data.getUint32(0, true)]).toEqual(['mmio', 0xf_0020, value])
        }
        expect(ring.next()).toBe(false)
      }
    },
  )
})
