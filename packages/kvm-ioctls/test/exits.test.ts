/** Each exit that a guest of a few bytes can bring about. */
import { Mapping, PROT_NONE } from '@vmm/sys-util'
import { describe, expect, test } from 'vitest'
import * as K from '../src/index.ts'
import {
  CODE_ADDRESS,
  capability,
  closeAfterTest,
  EXCEPTION_PORT,
  enterProtectedMode,
  expectExit,
  type Guest,
  realMode,
  skipWithoutKvm,
} from './harness.ts'

/** Address without a slot, as real mode reaches it: segment 0xf000. */
const HOLE = 0xf_0000

// biome-ignore format: one instruction a line
const DS_TO_HOLE = [
  0xb8, 0x00, 0xf0, // mov ax, 0xf000
  0x8e, 0xd8, // mov ds, ax
]
const HLT = 0xf4

function le32(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24]
}

/** mov ecx, index; mov eax, low; mov edx, high */
function msrOperands(index: number, low = 0, high = 0): number[] {
  return [0x66, 0xb9, ...le32(index), 0x66, 0xb8, ...le32(low), 0x66, 0xba, ...le32(high)]
}
const RDMSR = [0x0f, 0x32]
const WRMSR = [0x0f, 0x30]

describe.skipIf(skipWithoutKvm)('ports', () => {
  test.each([
    { size: 1, code: [0xee], value: 0x44 }, // out dx, al
    { size: 2, code: [0xef], value: 0x3344 }, // out dx, ax
    { size: 4, code: [0x66, 0xef], value: 0x1122_3344 }, // out dx, eax
  ])('give what is written, $size bytes wide', async ({ size, code, value }) => {
    const { vcpu } = realMode([...code, HLT], { rax: 0x1122_3344n, rdx: 0x3f8n })
    const exit = expectExit(await vcpu.run(), 'io-out')
    expect([exit.port, exit.size, exit.count, exit.value, exit.data.byteLength]).toEqual([
      0x3f8,
      size,
      1,
      value,
      size,
    ])
    expectExit(await vcpu.run(), 'hlt')
  })

  test.each([
    { size: 1, code: [0xec], rax: 0x1122_33aan }, // in al, dx
    { size: 2, code: [0xed], rax: 0x1122_bbaan }, // in ax, dx
    { size: 4, code: [0x66, 0xed], rax: 0xddcc_bbaan }, // in eax, dx
  ])('take what is read, $size bytes wide', async ({ size, code, rax }) => {
    const { vcpu } = realMode([...code, HLT], { rax: 0x1122_3344n, rdx: 0x3f8n })
    const exit = expectExit(await vcpu.run(), 'io-in')
    expect([exit.port, exit.size, exit.count, exit.data.byteLength]).toEqual([0x3f8, size, 1, size])
    exit.value = 0xddcc_bbaa
    expectExit(await vcpu.run(), 'hlt')
    expect(vcpu.getRegs().rax).toBe(rax)
  })

  test('give every element of a string', async () => {
    const { vcpu, memory } = realMode([
      // biome-ignore format: one instruction a line
      0xbe,
      0x00,
      0x20, // mov si, 0x2000
      0xb9,
      0x05,
      0x00, // mov cx, 5
      0xfc, // cld
      0xf3,
      0x6e, // rep outsb
      HLT,
    ])
    memory.set(Buffer.from('hello'), 0x2000)
    const written: number[] = []
    let exit = await vcpu.run()
    while (exit.reason === 'io-out') {
      expect(exit.data.byteLength).toBe(exit.size * exit.count)
      for (let index = 0; index < exit.count; index++) written.push(exit.data.getUint8(index))
      exit = await vcpu.run()
    }
    expectExit(exit, 'hlt')
    expect(Buffer.from(written).toString()).toBe('hello')
  })

  test('take every element of a string, as many at once as the guest asks for', async () => {
    const { vcpu, memory } = realMode([
      // biome-ignore format: one instruction a line
      0xbf,
      0x00,
      0x20, // mov di, 0x2000
      0xb9,
      0x64,
      0x00, // mov cx, 100
      0xfc, // cld
      0xf3,
      0x6d, // rep insw
      HLT,
    ])
    let next = 0
    let largest = 0
    let exit = await vcpu.run()
    while (exit.reason === 'io-in') {
      expect([exit.size, exit.data.byteLength]).toEqual([2, 2 * exit.count])
      largest = Math.max(largest, exit.count)
      for (let index = 0; index < exit.count; index++) exit.data.setUint16(2 * index, next++, true)
      exit = await vcpu.run()
    }
    expectExit(exit, 'hlt')
    expect([...new Uint16Array(memory.buffer, 0x2000, 100)]).toEqual(
      Array.from({ length: 100 }, (_, index) => index),
    )
    expect(largest).toBeGreaterThan(1)
  })
})

describe.skipIf(skipWithoutKvm)('memory without a slot', () => {
  test('gives writes and takes reads, 1, 2 and 4 bytes wide', async () => {
    const { vcpu } = realMode([
      // biome-ignore format: one instruction a line
      ...DS_TO_HOLE,
      0xc6,
      0x06,
      0x10,
      0x00,
      0x5a, // mov byte [0x10], 0x5a
      0xc7,
      0x06,
      0x20,
      0x00,
      0x34,
      0x12, // mov word [0x20], 0x1234
      0x66,
      0xa1,
      0x30,
      0x00, // mov eax, [0x30]
      HLT,
    ])
    const byte = expectExit(await vcpu.run(), 'mmio-write')
    expect([byte.address, byte.size, byte.data.getUint8(0)]).toEqual([HOLE + 0x10, 1, 0x5a])
    const word = expectExit(await vcpu.run(), 'mmio-write')
    expect([word.address, word.size, word.data.getUint16(0, true)]).toEqual([HOLE + 0x20, 2, 0x1234])
    const read = expectExit(await vcpu.run(), 'mmio-read')
    expect([read.address, read.size, read.data.byteLength]).toEqual([HOLE + 0x30, 4, 4])
    read.data.setUint32(0, 0xfeed_f00d, true)
    expectExit(await vcpu.run(), 'hlt')
    expect(vcpu.getRegs().rax).toBe(0xfeed_f00dn)
  })

  test('that is read-only gives writes alone', async () => {
    const { vcpu, vm } = realMode([
      // biome-ignore format: one instruction a line
      ...DS_TO_HOLE,
      0xa0,
      0x00,
      0x00, // mov al, [0]
      0xa2,
      0x01,
      0x00, // mov [1], al
      HLT,
    ])
    const rom = new Mapping({ size: 4096 })
    new Uint8Array(rom.view())[0] = 0x99
    const flags = K.KVM_MEM_READONLY
    vm.setUserMemoryRegion({ slot: 1, guestAddress: HOLE, size: 4096, hostAddress: rom.address, flags })
    const exit = expectExit(await vcpu.run(), 'mmio-write')
    expect([exit.address, exit.data.getUint8(0)]).toEqual([HOLE + 1, 0x99])
    expectExit(await vcpu.run(), 'hlt')
    vm.setUserMemoryRegion({ slot: 1, guestAddress: HOLE, size: 0, hostAddress: 0n })
    rom.close()
  })
})

describe.skipIf(skipWithoutKvm)('exit objects', () => {
  test('are the same ones every time, filled anew', async () => {
    const { vcpu } = realMode([0xe6, 0x10, 0xe7, 0x20, HLT]) // out 0x10, al; out 0x20, ax
    const first = expectExit(await vcpu.run(), 'io-out')
    expect([first.port, first.size]).toEqual([0x10, 1])
    const second = expectExit(await vcpu.run(), 'io-out')
    expect(second).toBe(first)
    expect([first.port, first.size]).toEqual([0x20, 2])
  })

  test('are no more to be had after close()', async () => {
    const { vcpu } = realMode([0xe6, 0x10])
    const { data } = expectExit(await vcpu.run(), 'io-out')
    vcpu.close()
    expect(() => data.getUint8(0)).toThrow(TypeError)
  })
})

describe.skipIf(skipWithoutKvm)('the end of a guest', () => {
  test('by a triple fault is a shutdown', async () => {
    // ud2 finds no vector, nor does the fault of that, nor that one's.
    const { vcpu } = realMode([0x0f, 0x0b])
    enterProtectedMode(vcpu)
    expectExit(await vcpu.run(), 'shutdown')
  })

  test('by an instruction that cannot be emulated tells it', async () => {
    // Code in memory without a slot: no KVM can fetch it.
    const { vcpu } = realMode([0xea, 0x00, 0x00, 0x00, 0xf0]) // jmp 0xf000:0
    const exit = expectExit(await vcpu.run(), 'internal-error')
    expect(exit.suberror).toBe(K.KVM_INTERNAL_ERROR_EMULATION)
    expect(exit.data.length).toBeLessThanOrEqual(16)
    expect(exit.instruction.length).toBeLessThanOrEqual(15)
    expect(vcpu.getRegs().rip).toBe(0n)
    expect(vcpu.getSregs().cs.base).toBe(BigInt(HOLE))
  })
})

describe.skipIf(skipWithoutKvm)('memory whose slot has nothing behind it', () => {
  test.skipIf(capability(K.KVM_CAP_MEMORY_FAULT_INFO) === 0)(
    'is a memory fault, told before the errno is thrown (needs KVM_CAP_MEMORY_FAULT_INFO)',
    async ({ skip }) => {
      const { vm, vcpu } = realMode([...DS_TO_HOLE, 0xa0, 0x10, 0x00, HLT]) // mov al, [0x10]
      const nothing = closeAfterTest(new Mapping({ size: 4096, prot: PROT_NONE }))
      vm.setUserMemoryRegion({ slot: 1, guestAddress: HOLE, size: 4096, hostAddress: nothing.address })
      const exit = await vcpu.run()
      if (exit.reason === 'mmio-read') skip('this KVM takes it for a device')
      expect(expectExit(exit, 'memory-fault')).toMatchObject({
        address: HOLE,
        size: 4096,
        flags: 0n,
        code: 'EFAULT',
      })
    },
  )
})

describe.skipIf(skipWithoutKvm)('debugging', () => {
  const NOP = 0x90
  const noBreakpoints = { debugreg: Array<bigint>(8).fill(0n) }

  test('steps from instruction to instruction', async () => {
    const { vcpu } = realMode([0xba, 0xf8, 0x03, 0x00, 0xd8, NOP, HLT]) // mov dx, 0x3f8; add al, bl; nop; hlt
    vcpu.setGuestDebug({ control: K.KVM_GUESTDBG_ENABLE | K.KVM_GUESTDBG_SINGLESTEP, arch: noBreakpoints })
    for (const offset of [3, 5, 6]) {
      const exit = expectExit(await vcpu.run(), 'debug')
      expect([exit.exception, exit.pc]).toEqual([K.DB_VECTOR, BigInt(CODE_ADDRESS + offset)])
      // Bit 14 of DR6: a single step.
      expect(exit.dr6 & 0x4000n).toBe(0x4000n)
    }
    vcpu.setGuestDebug({ control: 0, arch: noBreakpoints })
    expectExit(await vcpu.run(), 'hlt')
  })

  test('stops at breakpoints in the code (unless this KVM does not look for them)', async ({ skip }) => {
    const INT3 = 0xcc
    const { vcpu } = realMode([NOP, INT3, HLT])
    vcpu.setGuestDebug({ control: K.KVM_GUESTDBG_ENABLE | K.KVM_GUESTDBG_USE_SW_BP, arch: noBreakpoints })
    const exit = await vcpu.run()
    // One that interprets: it gives the guest its own breakpoint.
    if (exit.reason === 'io-out' && exit.port === EXCEPTION_PORT)
      skip('this KVM does not look for breakpoints')
    expect(expectExit(exit, 'debug')).toMatchObject({ exception: K.BP_VECTOR, pc: BigInt(CODE_ADDRESS + 1) })
  })

  test.skipIf(capability(K.KVM_CAP_GUEST_DEBUG_HW_BPS) === 0)(
    'stops at hardware breakpoints (needs KVM_CAP_GUEST_DEBUG_HW_BPS)',
    async () => {
      const { vcpu } = realMode([NOP, NOP, NOP, HLT])
      const debugreg = noBreakpoints.debugreg.slice()
      debugreg[0] = BigInt(CODE_ADDRESS + 2)
      debugreg[7] = 0x0000_0402n
      vcpu.setGuestDebug({ control: K.KVM_GUESTDBG_ENABLE | K.KVM_GUESTDBG_USE_HW_BP, arch: { debugreg } })
      const exit = expectExit(await vcpu.run(), 'debug')
      expect([exit.exception, exit.pc]).toEqual([K.DB_VECTOR, BigInt(CODE_ADDRESS + 2)])
    },
  )
})

describe.skipIf(skipWithoutKvm)('MSRs', () => {
  /** None of an x86 CPU's. */
  const UNKNOWN = 0x9999_0000

  function withUserMsrs(code: number[], causes: number): Guest {
    const guest = realMode([...code, HLT])
    guest.vm.enableCap(K.KVM_CAP_X86_USER_SPACE_MSR, { args: [causes] })
    return guest
  }

  const skip = capability(K.KVM_CAP_X86_USER_SPACE_MSR) === 0

  test.skipIf(skip)('that KVM does not know are read here (needs KVM_CAP_X86_USER_SPACE_MSR)', async () => {
    const { vcpu } = withUserMsrs([...msrOperands(UNKNOWN), ...RDMSR], K.KVM_MSR_EXIT_REASON_UNKNOWN)
    const exit = expectExit(await vcpu.run(), 'rdmsr')
    expect([exit.index, exit.cause, exit.error]).toEqual([UNKNOWN, K.KVM_MSR_EXIT_REASON_UNKNOWN, false])
    exit.data = 0x1122_3344_5566_7788n
    expectExit(await vcpu.run(), 'hlt')
    const { rax, rdx } = vcpu.getRegs()
    expect([rax, rdx]).toEqual([0x5566_7788n, 0x1122_3344n])
  })

  test.skipIf(skip)(
    'that KVM does not know are written here (needs KVM_CAP_X86_USER_SPACE_MSR)',
    async () => {
      const { vcpu } = withUserMsrs(
        [...msrOperands(UNKNOWN, 0x55, 0x66), ...WRMSR],
        K.KVM_MSR_EXIT_REASON_UNKNOWN,
      )
      const exit = expectExit(await vcpu.run(), 'wrmsr')
      expect([exit.index, exit.cause, exit.data]).toEqual([
        UNKNOWN,
        K.KVM_MSR_EXIT_REASON_UNKNOWN,
        0x66_0000_0055n,
      ])
      expectExit(await vcpu.run(), 'hlt')
    },
  )

  test.skipIf(skip)(
    'raise a #GP where the answer is an error (needs KVM_CAP_X86_USER_SPACE_MSR)',
    async () => {
      const { vcpu, memory } = withUserMsrs(
        [...msrOperands(UNKNOWN), ...RDMSR],
        K.KVM_MSR_EXIT_REASON_UNKNOWN,
      )
      // The real-mode vector of #GP: 0:0x3000, where out 0x0d, al is.
      memory.set([0x00, 0x30, 0x00, 0x00], K.GP_VECTOR * 4)
      memory.set([0xe6, K.GP_VECTOR], 0x3000)
      expectExit(await vcpu.run(), 'rdmsr').error = true
      expect(expectExit(await vcpu.run(), 'io-out').port).toBe(K.GP_VECTOR)
    },
  )

  test.skipIf(skip)('that a filter denies come here (needs KVM_CAP_X86_USER_SPACE_MSR)', async () => {
    const code = [...msrOperands(K.MSR_STAR, 1, 2), ...WRMSR, ...RDMSR]
    const { vm, vcpu } = withUserMsrs(code, K.KVM_MSR_EXIT_REASON_FILTER)
    const bitmap = Uint8Array.of(0)
    vm.setMsrFilter({
      default: 'allow',
      ranges: [{ flags: K.KVM_MSR_FILTER_WRITE, base: K.MSR_STAR, count: 1, bitmap }],
    })
    const exit = expectExit(await vcpu.run(), 'wrmsr')
    expect([exit.index, exit.cause]).toEqual([K.MSR_STAR, K.KVM_MSR_EXIT_REASON_FILTER])
    // Reads are not denied; the write was not done.
    expectExit(await vcpu.run(), 'hlt')
    expect(vcpu.getRegs().rdx).toBe(0n)
  })
})

describe.skipIf(skipWithoutKvm || capability(K.KVM_CAP_EXIT_HYPERCALL) === 0)('hypercalls', () => {
  const KVM_HC_MAP_GPA_RANGE = 12

  test('that were asked for come here (needs KVM_CAP_EXIT_HYPERCALL)', async ({ skip }) => {
    const { vm, vcpu, kvm, memory } = realMode([])
    memory.set([...(isAmd(kvm) ? VMMCALL : VMCALL), HLT], CODE_ADDRESS)
    // Without this a KVM that lacks the instruction rewrites it to the other one and back for ever.
    vm.enableCap(K.KVM_CAP_DISABLE_QUIRKS2, { args: [K.KVM_X86_QUIRK_FIX_HYPERCALL_INSN] })
    vcpu.setCpuid2(withMapGpaRange(kvm.supportedCpuid()))
    vm.enableCap(K.KVM_CAP_EXIT_HYPERCALL, { args: [1 << KVM_HC_MAP_GPA_RANGE] })
    enterProtectedMode(vcpu)
    vcpu.setRegs({
      ...vcpu.getRegs(),
      rax: BigInt(KVM_HC_MAP_GPA_RANGE),
      rbx: 0x1000n,
      rcx: 1n,
      rdx: 0n,
    })
    const exit = await vcpu.run()
    if (exit.reason !== 'hypercall') skip(`this KVM ends it as ${exit.reason}`)
    const call = expectExit(exit, 'hypercall')
    expect([call.nr, call.args[0], call.args[1]]).toEqual([BigInt(KVM_HC_MAP_GPA_RANGE), 0x1000n, 1n])
    call.result = 0n
    expectExit(await vcpu.run(), 'hlt')
    expect(vcpu.getRegs().rax).toBe(0n)
  })
})

const VMCALL = [0x0f, 0x01, 0xc1]
const VMMCALL = [0x0f, 0x01, 0xd9]

function isAmd(kvm: K.Kvm): boolean {
  // EBX of leaf 0: "Auth" of AuthenticAMD.
  return kvm.supportedCpuid().some((entry) => entry.function === 0 && entry.ebx === 0x6874_7541)
}

/** KVM_FEATURE_HC_MAP_GPA_RANGE in the leaf of KVM's features. */
function withMapGpaRange(entries: readonly K.CpuidEntry[]): K.CpuidEntry[] {
  return entries.map((entry) =>
    entry.function === 0x4000_0001 ? { ...entry, eax: (entry.eax | (1 << 16)) >>> 0 } : entry,
  )
}

describe.skipIf(skipWithoutKvm)('an immediate exit', () => {
  test('is off at first, ends one run, and lets the next run', async () => {
    const { vcpu } = realMode([0xe6, 0x10, HLT])
    expect(vcpu.immediateExit).toBe(false)
    vcpu.immediateExit = true
    expect(vcpu.immediateExit).toBe(true)
    expectExit(await vcpu.run(), 'interrupted')
    expect(vcpu.immediateExit).toBe(false)
    expectExit(await vcpu.run(), 'io-out')
    vcpu.immediateExit = true
    expectExit(vcpu.runSync(), 'interrupted')
    expectExit(vcpu.runSync(), 'hlt')
  })

  test('completes the exit at hand before state is looked at', async () => {
    const { vcpu } = realMode([0xe4, 0x10, HLT], { rax: 0n }) // in al, 0x10
    expectExit(await vcpu.run(), 'io-in').value = 0x42
    expect(vcpu.getRegs().rax).toBe(0n)
    expectExit(vcpu.completeExit(), 'interrupted')
    expect(vcpu.getRegs()).toMatchObject({ rax: 0x42n, rip: BigInt(CODE_ADDRESS + 2) })
    expectExit(await vcpu.run(), 'hlt')
  })
})
