import { readdirSync } from 'node:fs'
import { EventFd, Mapping } from '@vmm/sys-util'
import { describe, expect, test } from 'vitest'
import * as K from '../src/index.ts'
import {
  capability,
  closeAfterTest,
  MEMORY_SIZE,
  memoryOnly,
  openKvm,
  realMode,
  skipWithoutKvm,
} from './harness.ts'

const outOfRange = expect.objectContaining({ code: 'ERR_KVM_OUT_OF_RANGE' })
const error = (code: string) => expect.objectContaining({ code })

function newVm(): K.Vm {
  return closeAfterTest(openKvm().createVm())
}

function withIrqchip(): K.Vm {
  const vm = newVm()
  vm.createIrqchip()
  return vm
}

describe.skipIf(skipWithoutKvm)('memory slots', () => {
  test('are made and taken away', () => {
    const vm = newVm()
    const { address } = closeAfterTest(new Mapping({ size: MEMORY_SIZE }))
    const region = { slot: 0, guestAddress: 0x10000, size: MEMORY_SIZE, hostAddress: address }
    vm.setUserMemoryRegion(region)
    expect(() => vm.setUserMemoryRegion({ ...region, slot: 1 })).toThrow(error('EEXIST'))
    vm.setUserMemoryRegion({ ...region, size: 0 })
    vm.setUserMemoryRegion({ ...region, slot: 1 })
  })

  test('of nothing, off the page, or beyond what a number holds are refused', () => {
    const vm = newVm()
    const { address } = closeAfterTest(new Mapping({ size: MEMORY_SIZE }))
    const region = { slot: 0, guestAddress: 0, size: MEMORY_SIZE, hostAddress: address }
    expect(() => vm.setUserMemoryRegion({ slot: 0, guestAddress: 0, size: 0, hostAddress: 0n })).toThrow(
      error('EINVAL'),
    )
    expect(() => vm.setUserMemoryRegion({ ...region, guestAddress: 0x10 })).toThrow(error('EINVAL'))
    expect(() => vm.setUserMemoryRegion({ ...region, guestAddress: 2 ** 53 })).toThrow(outOfRange)
    expect(() => vm.setUserMemoryRegion({ ...region, slot: -1 })).toThrow(outOfRange)
  })

  test.skipIf(capability(K.KVM_CAP_USER_MEMORY2) === 0)(
    'have a second form (needs KVM_CAP_USER_MEMORY2)',
    () => {
      const vm = newVm()
      const { address } = closeAfterTest(new Mapping({ size: MEMORY_SIZE }))
      vm.setUserMemoryRegion2({ slot: 0, guestAddress: 0, size: MEMORY_SIZE, hostAddress: address })
      expect(() => vm.setUserMemoryRegion2({ slot: 1, guestAddress: 0, size: 0, hostAddress: 0n })).toThrow(
        error('EINVAL'),
      )
    },
  )

  test.skipIf(capability(K.KVM_CAP_GUEST_MEMFD) === 0)(
    'have private files (needs KVM_CAP_GUEST_MEMFD)',
    () => {
      const vm = newVm()
      const memfd = closeAfterTest(vm.createGuestMemfd(MEMORY_SIZE))
      expect(memfd.fd).toBeGreaterThan(0)
      expect(() => vm.createGuestMemfd(1)).toThrow(error('EINVAL'))
    },
  )

  test.skipIf(capability(K.KVM_CAP_MEMORY_ATTRIBUTES) === 0)(
    'have attributes (needs KVM_CAP_MEMORY_ATTRIBUTES)',
    () => newVm().setMemoryAttributes(0, MEMORY_SIZE, BigInt(K.KVM_MEMORY_ATTRIBUTE_PRIVATE)),
  )
})

describe.skipIf(skipWithoutKvm)('before there are vCPUs', () => {
  test('the TSS, the identity map and the boot CPU are set; after, not', () => {
    const vm = newVm()
    vm.setTssAddress(0xfffb_d000)
    vm.setIdentityMapAddress(0xfffb_c000)
    vm.setBootCpuId(0)
    closeAfterTest(vm.createVcpu(0))
    expect(() => vm.setIdentityMapAddress(0xfffb_c000)).toThrow(error('EINVAL'))
    expect(() => vm.setBootCpuId(1)).toThrow(error('EBUSY'))
  })
})

describe.skipIf(skipWithoutKvm)('the irqchip', () => {
  test('is made once', () => {
    expect(() => withIrqchip().createIrqchip()).toThrow(error('EEXIST'))
  })

  test('gives and takes the state of both PICs and of the I/O APIC', () => {
    const vm = withIrqchip()
    for (const chip of [K.KVM_IRQCHIP_PIC_MASTER, K.KVM_IRQCHIP_PIC_SLAVE] as const) {
      const pic = { ...vm.getPic(chip), irq_base: 0x20 + 8 * chip }
      vm.setPic(chip, pic)
      expect(vm.getPic(chip)).toEqual(pic)
    }
    const ioapic = vm.getIoapic()
    const redirtbl = ioapic.redirtbl.map((entry, pin) => (pin === 5 ? 0x0100_0000_0001_0035n : entry))
    vm.setIoapic({ ...ioapic, redirtbl })
    expect(vm.getIoapic().redirtbl).toEqual(redirtbl)
  })

  test('does nothing before it is there', () => {
    const vm = newVm()
    expect(() => vm.getPic(K.KVM_IRQCHIP_PIC_MASTER)).toThrow(error('ENXIO'))
    expect(() => vm.setPic(K.KVM_IRQCHIP_PIC_MASTER, K.kvm_pic_state.allocate())).toThrow(error('ENXIO'))
    expect(() => vm.getIoapic()).toThrow(error('ENXIO'))
    expect(() => vm.setIoapic(K.kvm_ioapic_state.allocate())).toThrow(error('ENXIO'))
    expect(() => vm.setIrqLine(4, true)).toThrow(error('ENXIO'))
    expect(() => vm.setGsiRouting([])).toThrow(error('EINVAL'))
    expect(() => vm.getPit2()).toThrow(error('ENXIO'))
    expect(() => vm.createPit2()).toThrow(error('ENOENT'))
  })

  test('takes lines that go up and down, and says who got them', () => {
    const vm = withIrqchip()
    closeAfterTest(vm.createVcpu(0))
    vm.setIrqLine(4, true)
    expect(vm.getPic(K.KVM_IRQCHIP_PIC_MASTER).last_irr & (1 << 4)).not.toBe(0)
    vm.setIrqLine(4, false)
    expect(vm.getPic(K.KVM_IRQCHIP_PIC_MASTER).last_irr & (1 << 4)).toBe(0)
    expect(vm.setIrqLineStatus(3, true)).toBe(1)
  })

  test('takes a table of routes of every kind of its own', () => {
    const vm = withIrqchip()
    vm.setGsiRouting([
      { gsi: 4, type: 'irqchip', chip: K.KVM_IRQCHIP_PIC_MASTER, pin: 4 },
      { gsi: 4, type: 'irqchip', chip: K.KVM_IRQCHIP_IOAPIC, pin: 4 },
      { gsi: 24, type: 'msi', addressLow: 0xfee0_0000, data: 0x41 },
    ])
    vm.setIrqLine(4, true)
    expect(vm.getPic(K.KVM_IRQCHIP_PIC_MASTER).last_irr & (1 << 4)).not.toBe(0)

    // Without its route the line leads nowhere.
    vm.setGsiRouting([])
    vm.setIrqLine(5, true)
    expect(vm.getPic(K.KVM_IRQCHIP_PIC_MASTER).last_irr & (1 << 5)).toBe(0)
    expect(() => vm.setGsiRouting([{ gsi: 1, type: 'irqchip', chip: 77, pin: 0 }])).toThrow(error('EINVAL'))
    const tooMany = Array.from({ length: K.KVM_MAX_IRQ_ROUTES + 1 }, () => {
      return { gsi: 0, type: 'irqchip', chip: 0, pin: 0 } as const
    })
    expect(() => vm.setGsiRouting(tooMany)).toThrow(outOfRange)
  })

  test('delivers MSIs to vCPUs that there are', () => {
    const vm = withIrqchip()
    const msi = { addressLow: 0xfee0_0000, data: 0x41 }
    expect(() => vm.signalMsi(msi)).toThrow(error('EPERM'))
    const vcpu = closeAfterTest(vm.createVcpu(0))
    expect(vm.signalMsi(msi)).toBe(false)
    enableApic(vcpu)
    expect(vm.signalMsi(msi)).toBe(true)
    // Vector 0x41 is bit 1 of the third word of the interrupt request register.
    const { regs } = vcpu.getLapic()
    expect(new DataView(regs.buffer).getUint32(APIC_IRR + 0x20, true) & 2).toBe(2)
  })

  test('can be split, with the APICs alone in the kernel', () => {
    const vm = newVm()
    vm.enableCap(K.KVM_CAP_SPLIT_IRQCHIP, { args: [24] })
    expect(() => vm.createIrqchip()).toThrow(error('EEXIST'))
    expect(() => vm.enableCap(0xffff)).toThrow(error('EINVAL'))
    expect(() => vm.enableCap(K.KVM_CAP_SPLIT_IRQCHIP, { args: [1, 2, 3, 4, 5] })).toThrow(outOfRange)
  })
})

const APIC_SPIV = 0xf0
const APIC_SPIV_ENABLED = 0x100
const APIC_IRR = 0x200

function enableApic(vcpu: K.Vcpu): void {
  const lapic = vcpu.getLapic()
  const view = new DataView(lapic.regs.buffer)
  view.setUint32(APIC_SPIV, view.getUint32(APIC_SPIV, true) | APIC_SPIV_ENABLED, true)
  vcpu.setLapic(lapic)
}

describe.skipIf(skipWithoutKvm)('irqfds', () => {
  test('raise their GSI; two may share one', async () => {
    const vm = withIrqchip()
    closeAfterTest(vm.createVcpu(0))
    const [first, second] = [closeAfterTest(new EventFd()), closeAfterTest(new EventFd())]
    vm.registerIrqfd(first.fd, 4)
    vm.registerIrqfd(second.fd, 4)
    const before = vm.getPic(K.KVM_IRQCHIP_PIC_MASTER).irr
    second.write()
    expect(before & (1 << 4)).toBe(0)
    // KVM raises the line from a thread of its own.
    await expect.poll(() => vm.getPic(K.KVM_IRQCHIP_PIC_MASTER).irr & (1 << 4)).not.toBe(0)
  })

  test('raise one GSI only', () => {
    const vm = withIrqchip()
    const event = closeAfterTest(new EventFd())
    vm.registerIrqfd(event.fd, 4)
    expect(() => vm.registerIrqfd(event.fd, 4)).toThrow(error('EBUSY'))
    expect(() => vm.registerIrqfd(event.fd, 5)).toThrow(error('EBUSY'))
    vm.unregisterIrqfd(event.fd, 4)
    vm.registerIrqfd(event.fd, 5)
  })

  test('that were never registered end without a word', () => {
    const vm = withIrqchip()
    vm.unregisterIrqfd(closeAfterTest(new EventFd()).fd, 4)
  })

  test.skipIf(capability(K.KVM_CAP_IRQFD_RESAMPLE) === 0)(
    'can hold a level until the guest acknowledges (needs KVM_CAP_IRQFD_RESAMPLE)',
    async () => {
      const vm = withIrqchip()
      closeAfterTest(vm.createVcpu(0))
      const [event, resample] = [closeAfterTest(new EventFd()), closeAfterTest(new EventFd())]
      vm.registerIrqfd(event.fd, 5, resample.fd)
      event.write()
      await expect.poll(() => vm.getIoapic().irr & (1 << 5)).not.toBe(0)
      expect(resample.read()).toBe(0)
    },
  )
})

describe.skipIf(skipWithoutKvm)('ioeventfds', () => {
  const events: K.IoEvent[] = [
    { space: 'pio', address: 0xf4 },
    { space: 'mmio', address: 0x10_0000 },
    { space: 'pio', address: 0xc1, length: 1, datamatch: 0x7f },
    { space: 'pio', address: 0xc2, length: 2, datamatch: 0x1337 },
    { space: 'mmio', address: 0x10_0010, length: 4, datamatch: 0xdead_beef },
    { space: 'mmio', address: 0x10_0020, length: 8, datamatch: 0xdead_beef_dead_beefn },
  ]

  test.each(events)('are registered once and taken away once: $space $address $length', (event) => {
    const vm = newVm()
    const eventfd = closeAfterTest(new EventFd())
    vm.registerIoEvent(eventfd.fd, event)
    expect(() => vm.registerIoEvent(eventfd.fd, event)).toThrow(error('EEXIST'))
    expect(() => vm.unregisterIoEvent(eventfd.fd, { ...event, address: event.address + 1 })).toThrow(
      error('ENOENT'),
    )
    vm.unregisterIoEvent(eventfd.fd, event)
    expect(() => vm.unregisterIoEvent(eventfd.fd, event)).toThrow(error('ENOENT'))
  })

  test('ring for the writes that match, which do not end the run', () => {
    const { vm, vcpu } = realMode([
      // biome-ignore format: one instruction a line
      0xb0,
      0x07, // mov al, 7
      0xe6,
      0xf4, // out 0xf4, al
      0xe6,
      0xf4, // out 0xf4, al
      0xb0,
      0x08, // mov al, 8
      0xe6,
      0xf4, // out 0xf4, al
      0xf4, // hlt
    ])
    const matching = closeAfterTest(new EventFd())
    vm.registerIoEvent(matching.fd, { space: 'pio', address: 0xf4, length: 1, datamatch: 7 })
    expect(vcpu.runSync()).toMatchObject({ reason: 'io-out', port: 0xf4, value: 8 })
    expect(matching.read()).toBe(2)
    expect(vcpu.runSync().reason).toBe('hlt')
  })
})

describe.skipIf(skipWithoutKvm)('timers and clocks', () => {
  test('the PIT gives and takes its state', () => {
    const vm = withIrqchip()
    vm.createPit2(K.KVM_PIT_SPEAKER_DUMMY)
    const state = vm.getPit2()
    const [channel, ...rest] = state.channels
    // Of what is set, KVM starts the counter anew.
    const changed = {
      ...state,
      channels: [{ ...(channel as K.PitChannelState), mode: 2, count: 0x1234 }, ...rest],
    }
    vm.setPit2(changed)
    const { mode, count } = vm.getPit2().channels[0] as K.PitChannelState
    expect([mode, count]).toEqual([2, 0x1234])
    vm.setPitReinject(false)
  })

  test('the clock goes on, and can be set back', () => {
    const vm = newVm()
    const before = vm.getClock()
    const after = vm.getClock()
    expect(after.clock >= before.clock).toBe(true)
    vm.setClock({
      ...K.kvm_clock_data.get(new DataView(new ArrayBuffer(K.kvm_clock_data.size)), 0),
      clock: 5n,
    })
    // Far less than an hour has passed since, and a new VM's clock would not be there either.
    expect(vm.getClock().clock).toBeLessThan(3_600_000_000_000n)
    vm.setClock(before)
  })
})

describe.skipIf(skipWithoutKvm)('the MSR filter', () => {
  const range = { flags: K.KVM_MSR_FILTER_READ, base: K.MSR_STAR, count: 1, bitmap: Uint8Array.of(0) }

  test('allows all, or denies one', () => {
    const vm = newVm()
    vm.setMsrFilter({ default: 'allow', ranges: [] })
    vm.setMsrFilter({ default: 'allow', ranges: [range] })
    vm.setMsrFilter({ default: 'allow', ranges: Array(K.KVM_MSR_FILTER_MAX_RANGES).fill(range) })
  })

  test('cannot deny by default without ranges', () => {
    expect(() => newVm().setMsrFilter({ default: 'deny', ranges: [] })).toThrow(error('EINVAL'))
  })

  test('is refused where the kernel would read behind a bitmap, and where there are too many ranges', () => {
    const vm = newVm()
    expect(() => vm.setMsrFilter({ default: 'allow', ranges: [{ ...range, count: 9 }] })).toThrow(outOfRange)
    vm.setMsrFilter({ default: 'allow', ranges: [{ ...range, count: 8 }] })
    const many = Array(K.KVM_MSR_FILTER_MAX_RANGES + 1).fill(range)
    expect(() => vm.setMsrFilter({ default: 'allow', ranges: many })).toThrow(outOfRange)
  })
})

describe.skipIf(skipWithoutKvm)('children', () => {
  test('have ids below the limit, each once', () => {
    const kvm = openKvm()
    const vm = closeAfterTest(kvm.createVm())
    closeAfterTest(vm.createVcpu(kvm.maxVcpuId - 1))
    expect(() => vm.createVcpu(kvm.maxVcpuId)).toThrow(error('EINVAL'))
    expect(() => vm.createVcpu(65537)).toThrow(error('EINVAL'))
    closeAfterTest(vm.createVcpu(0))
    expect(() => vm.createVcpu(0)).toThrow(error('EEXIST'))
  })

  test('are closed with the VM', () => {
    const vm = openKvm().createVm()
    const vcpu = vm.createVcpu(0)
    vm.close()
    vm.close()
    expect([vcpu.closed, vm.closed]).toEqual([true, true])
    expect(() => vcpu.runSync()).toThrow(error('EBADF'))
  })

  test('are not left open when they cannot be made', () => {
    const vm = newVm()
    const before = readdirSync('/proc/self/fd').length
    expect(() => vm.createVcpu(0, { kickSignal: 9 })).toThrow(error('EINVAL'))
    expect(() => vm.createVcpu(0)).toThrow(error('EEXIST'))
    expect(readdirSync('/proc/self/fd').length).toBe(before)
  })

  test('are devices too, with attributes', () => {
    const vm = newVm()
    expect(vm.hasDevice(0xffff)).toBe(false)
    expect(() => vm.createDevice(0xffff)).toThrow(error('ENODEV'))
  })

  test('such as the VFIO device, where KVM has it', ({ skip }) => {
    const vm = newVm()
    if (!vm.hasDevice(K.KVM_DEV_TYPE_VFIO)) skip('this KVM has no VFIO device')
    const device = vm.createDevice(K.KVM_DEV_TYPE_VFIO)
    expect(device.hasAttribute(K.KVM_DEV_VFIO_GROUP, BigInt(K.KVM_DEV_VFIO_GROUP_ADD))).toBe(true)
    expect(device.hasAttribute(0xffff, 0n)).toBe(false)
    const fd = Int32Array.of(-1)
    expect(() => device.setAttribute(K.KVM_DEV_VFIO_GROUP, BigInt(K.KVM_DEV_VFIO_GROUP_ADD), fd)).toThrow(
      error('EBADF'),
    )
    expect(() => device.getAttribute(K.KVM_DEV_VFIO_GROUP, 0n, fd)).toThrow(
      K.KvmError.prototype.constructor === Error ? Error : Error,
    )
    vm.close()
    expect(device.closed).toBe(true)
  })
})

describe.skipIf(skipWithoutKvm)('what other VMs have', () => {
  test('is refused by this one: encryption', () => {
    const { vm } = memoryOnly()
    const { address } = closeAfterTest(new Mapping({ size: MEMORY_SIZE }))
    expect(() => vm.sevCommand(0, 0)).toThrow(expect.objectContaining({ syscall: 'KVM_MEMORY_ENCRYPT_OP' }))
    expect(() => vm.encryptOp(new Uint8Array(64))).toThrow(
      expect.objectContaining({ syscall: 'KVM_MEMORY_ENCRYPT_OP' }),
    )
    expect(() => vm.registerEncryptedRegion(address, 4096)).toThrow(
      expect.objectContaining({ syscall: 'KVM_MEMORY_ENCRYPT_REG_REGION' }),
    )
    expect(() => vm.unregisterEncryptedRegion(address, 4096)).toThrow(
      expect.objectContaining({ syscall: 'KVM_MEMORY_ENCRYPT_UNREG_REGION' }),
    )
  })

  test.skipIf(capability(K.KVM_CAP_HYPERV_EVENTFD) === 0)(
    'Hyper-V connections (needs KVM_CAP_HYPERV_EVENTFD)',
    () => {
      const vm = newVm()
      const event = closeAfterTest(new EventFd())
      vm.registerHypervEventfd(event.fd, 1)
      vm.unregisterHypervEventfd(1)
      expect(() => vm.unregisterHypervEventfd(1)).toThrow(error('ENOENT'))
    },
  )

  test.skipIf(capability(K.KVM_CAP_XEN_HVM) === 0)('Xen hypercalls (needs KVM_CAP_XEN_HVM)', () => {
    newVm().setXenHvmConfig(K.KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, 0x4000_0000)
  })

  test.skipIf(capability(K.KVM_CAP_PMU_EVENT_FILTER) === 0)(
    'a PMU filter (needs KVM_CAP_PMU_EVENT_FILTER)',
    () => {
      const vm = newVm()
      vm.setPmuEventFilter({ action: K.KVM_PMU_EVENT_ALLOW, events: [0xc0n] })
      expect(() => vm.setPmuEventFilter({ action: 7, events: [] })).toThrow(error('EINVAL'))
      expect(() => vm.setPmuEventFilter({ action: 0, events: Array(301).fill(0n) })).toThrow(outOfRange)
    },
  )

  test.skipIf(capability(K.KVM_CAP_VM_TSC_CONTROL) === 0)(
    'a TSC frequency (needs KVM_CAP_VM_TSC_CONTROL)',
    () => {
      const vm = newVm()
      vm.setTscKhz(1_000_000)
      expect(vm.getTscKhz()).toBe(1_000_000)
    },
  )

  test.skipIf(capability(K.KVM_CAP_BINARY_STATS_FD) === 0)('counters (needs KVM_CAP_BINARY_STATS_FD)', () => {
    expect(closeAfterTest(newVm().openStats()).fd).toBeGreaterThan(0)
  })
})
