/**
 * Nothing is left of a vCPU that has run and been closed. A few rounds always; a thousand with VMM_LONG_TESTS set.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { closeFd, createMemfd, Mapping } from '@vmm/sys-util'
import { describe, expect, test, vi } from 'vitest'
import { Kvm, Vcpu } from '../src/index.ts'
import { CODE_ADDRESS, enterRealMode, expectExit, MEMORY_SIZE, skipWithoutKvm } from './harness.ts'

const LONG = 'VMM_LONG_TESTS' in process.env
const ROUNDS = LONG ? 1000 : 50
/** The C library's and V8's heaps take some two thousand rounds to find their size. */
const WARM_UP = LONG ? 2500 : 20

const PAGE_SIZE = 4096

setFlagsFromString('--expose-gc')
const gc: () => void = runInNewContext('gc')

/** Finalizers run in turns of the event loop after the collection. */
async function collectGarbage(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) {
    gc()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length
}

function mappings(): number {
  return readFileSync('/proc/self/maps', 'latin1').split('\n').length
}

/** One VM with a vCPU that is run, kicked or left alone, and closed. */
async function round(kvm: Kvm, kicked: boolean): Promise<void> {
  const memory = new Mapping({ size: MEMORY_SIZE })
  const vm = kvm.createVm()
  vm.setUserMemoryRegion({ slot: 0, guestAddress: 0, size: MEMORY_SIZE, hostAddress: memory.address })
  new Uint8Array(memory.view()).set(kicked ? [0xeb, 0xfe] : [0xe6, 0x10, 0xf4], CODE_ADDRESS)
  const vcpu = vm.createVcpu(0)
  enterRealMode(vcpu)
  if (kicked) {
    const run = vcpu.run()
    await vcpu.stop()
    // Not by expect(), which keeps kilobytes for each call.
    expectExit(await run, 'interrupted')
  } else {
    expectExit(await vcpu.run(), 'io-out')
    expectExit(vcpu.runSync(), 'hlt')
  }
  vm.close()
  memory.close()
}

describe.skipIf(skipWithoutKvm)('after runs', () => {
  test(`no descriptor, mapping or memory is left: ${ROUNDS} VMs`, { timeout: 600_000 }, async () => {
    const kvm = Kvm.open()
    for (let index = 0; index < WARM_UP; index++) await round(kvm, index % 2 === 0)
    await collectGarbage()
    const before = { descriptors: descriptors(), mappings: mappings(), ...process.memoryUsage() }

    for (let index = 0; index < ROUNDS; index++) await round(kvm, index % 2 === 0)
    await collectGarbage()
    const after = { descriptors: descriptors(), mappings: mappings(), ...process.memoryUsage() }
    kvm.close()

    expect(after.descriptors).toBe(before.descriptors)
    // The allocator may keep a few more arenas than before; a leak would be one or more for each round.
    expect(after.mappings - before.mappings).toBeLessThan(ROUNDS / 4)
    // A run page alone has 12 KiB.
    expect((after.heapUsed - before.heapUsed) / ROUNDS).toBeLessThan(8192)
    if (LONG) expect((after.rss - before.rss) / ROUNDS).toBeLessThan(8192)
  })
})

describe('what cannot be taken over', () => {
  test('as a vCPU is closed, and its run page unmapped', () => {
    const memfd = createMemfd('no vcpu', PAGE_SIZE)
    const { fd } = memfd
    const descriptor = { fd: memfd.release(), mmapSize: PAGE_SIZE, xsaveSize: 0, dirtyRingSize: 0 }
    expect(() => Vcpu.fromFd(descriptor)).toThrow(expect.objectContaining({ syscall: 'KVM_SET_SIGNAL_MASK' }))
    expect(() => closeFd(fd)).toThrow(expect.objectContaining({ code: 'EBADF' }))
    expect(readFileSync('/proc/self/maps', 'latin1')).not.toContain('no vcpu')
  })

  test.skipIf(skipWithoutKvm)('as a VM is not made', () => {
    const kvm = Kvm.open()
    const before = descriptors()
    const failing = vi.spyOn(kvm, 'vcpuMmapSize', 'get').mockImplementation(() => {
      throw new Error('the size is not to be had')
    })
    expect(() => kvm.createVm()).toThrow('the size is not to be had')
    failing.mockRestore()
    expect(descriptors()).toBe(before)
    kvm.close()
  })
})
