/**
 * What the tests with a real KVM share: whether there is one, VMs that are closed after each test, and guests of a few bytes.
 */
import { accessSync, constants } from 'node:fs'
import { inspect } from 'node:util'
import { Mapping } from '@vmm/sys-util'
import { afterEach } from 'vitest'
import { Kvm, type Vcpu, type VcpuExit, type Vm } from '../src/index.ts'

const PATH = '/dev/kvm'

function mayOpen(): boolean {
  try {
    accessSync(PATH, constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** Whether to skip tests that need KVM. With CI set they are not skipped, and fail. */
export const skipWithoutKvm: boolean = !mayOpen() && !('CI' in process.env)
if (skipWithoutKvm) console.warn(`${PATH} cannot be opened: tests that need KVM are skipped`)

/** What is closed after each test, latest first. */
const open: Disposable[] = []

/** Has something closed after the test. */
export function closeAfterTest<T extends Disposable>(resource: T): T {
  open.push(resource)
  return resource
}

afterEach(async () => {
  for (const resource of open.splice(0).reverse()) {
    if (Symbol.asyncDispose in resource) await (resource as unknown as AsyncDisposable)[Symbol.asyncDispose]()
    resource[Symbol.dispose]()
  }
})

/** What this KVM says of capabilities, for tests that need some: asked before they are collected. */
export function capability(number: number): number {
  if (skipWithoutKvm) return 0
  const kvm = Kvm.open()
  const vm = kvm.createVm()
  try {
    return vm.checkExtension(number)
  } finally {
    vm.close()
    kvm.close()
  }
}

export function openKvm(): Kvm {
  return closeAfterTest(Kvm.open())
}

/** Where the code of {@link realMode} guests is, and how much memory they have, from 0. */
export const CODE_ADDRESS = 0x1000
export const MEMORY_SIZE = 0x10000

export interface Guest {
  readonly kvm: Kvm
  readonly vm: Vm
  readonly vcpu: Vcpu
  readonly memory: Uint8Array<ArrayBuffer>
}

/** A VM with 64 KiB of memory and no vCPU. */
export function memoryOnly(flags = 0): Omit<Guest, 'vcpu'> {
  const kvm = openKvm()
  const mapping = closeAfterTest(new Mapping({ size: MEMORY_SIZE }))
  const vm = closeAfterTest(kvm.createVm())
  vm.setUserMemoryRegion({
    slot: 0,
    flags,
    guestAddress: 0,
    size: MEMORY_SIZE,
    hostAddress: mapping.address,
  })
  return { kvm, vm, memory: new Uint8Array(mapping.view()) }
}

/** Where the vCPU's next run begins: flat 16-bit code at CODE_ADDRESS. */
export function enterRealMode(
  vcpu: Vcpu,
  registers: { rax?: bigint; rbx?: bigint; rdx?: bigint } = {},
): void {
  const sregs = vcpu.getSregs()
  sregs.cs.base = 0n
  sregs.cs.selector = 0
  vcpu.setSregs(sregs)
  vcpu.setRegs({ ...vcpu.getRegs(), ...registers, rip: BigInt(CODE_ADDRESS), rflags: 2n })
}

/** Where the vCPU's next run begins: flat 32-bit code at CODE_ADDRESS, without interrupt vectors. */
export function enterProtectedMode(vcpu: Vcpu): void {
  const sregs = vcpu.getSregs()
  const flat = { ...sregs.ds, base: 0n, limit: 0xffff_ffff, db: 1, g: 1, present: 1, s: 1, unusable: 0 }
  const data = { ...flat, selector: 0x10, type: 3 }
  vcpu.setSregs({
    ...sregs,
    cs: { ...flat, selector: 0x08, type: 11 },
    ds: data,
    es: data,
    ss: data,
    cr0: sregs.cr0 | 1n,
    idt: { base: 0n, limit: 0 },
  })
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE_ADDRESS), rflags: 2n })
}

/** Port that guests write when an exception has come that no test wants. */
export const EXCEPTION_PORT = 0xe0
const EXCEPTION_HANDLER = 0x500
const VECTORS = 256

/** A real-mode vector table whose entries all lead to `out EXCEPTION_PORT, al`. */
function vectorTable(): Uint8Array {
  return new Uint8Array(Uint32Array.from({ length: VECTORS }, () => EXCEPTION_HANDLER).buffer)
}

/** A VM with one vCPU about to execute `code` in real mode. */
export function realMode(
  code: readonly number[],
  registers: { rax?: bigint; rbx?: bigint; rdx?: bigint } = {},
  flags = 0,
): Guest {
  const guest = memoryOnly(flags)
  guest.memory.set(vectorTable())
  guest.memory.set([0xe6, EXCEPTION_PORT], EXCEPTION_HANDLER)
  guest.memory.set(code, CODE_ADDRESS)
  const vcpu = closeAfterTest(guest.vm.createVcpu(0))
  enterRealMode(vcpu, registers)
  return { ...guest, vcpu }
}

/** The exit, which has to be of this reason. */
export function expectExit<R extends VcpuExit['reason']>(
  exit: VcpuExit,
  reason: R,
): Extract<VcpuExit, { reason: R }> {
  if (exit.reason !== reason) throw new Error(`expected the exit ${reason}, got ${inspect(exit)}`)
  return exit as Extract<VcpuExit, { reason: R }>
}
