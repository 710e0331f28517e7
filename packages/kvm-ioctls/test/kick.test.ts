import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { KvmError, type Vcpu } from '../src/index.ts'
import { closeAfterTest, enterRealMode, expectExit, memoryOnly, realMode, skipWithoutKvm } from './harness.ts'

// Each is an endless loop at CODE_ADDRESS.
const SPIN = [0xeb, 0xfe] // jmp $
const EXIT = [0xee, 0xeb, 0xfd] // out dx, al; jmp -1

const KICKS = 250

/** The loop of a VMM: counts exits until `stopped`. */
async function runLoop(vcpu: Vcpu, control: { stopped: boolean }): Promise<Record<string, number>> {
  const exits: Record<string, number> = {}
  while (!control.stopped) {
    const { reason } = await vcpu.run()
    exits[reason] = (exits[reason] ?? 0) + 1
  }
  return exits
}

function turns(count: number): Promise<void> {
  return new Promise((resolve) => {
    const step = (left: number): unknown => (left <= 0 ? resolve() : setImmediate(step, left - 1))
    step(count)
  })
}

describe.skipIf(skipWithoutKvm)('a kick', () => {
  test('without a run settles at once, and does not end the next run', async () => {
    const { vcpu } = realMode(EXIT)
    await vcpu.kick()
    expectExit(await vcpu.run(), 'io-out')
  })

  test('ends a run that spins in the guest, each of hundreds of times and in every phase', async () => {
    const { vcpu } = realMode(SPIN)
    for (let phase = 0; phase < KICKS; phase++) {
      const run = vcpu.run()
      // From before the thread has taken the run up to long after it has entered the guest.
      await turns(phase % 7)
      const kick = vcpu.kick()
      expectExit(await run, 'interrupted')
      await kick
      expect(vcpu.running).toBe(false)
      expect(vcpu.immediateExit).toBe(false)
    }
  })

  test('ends a run that waits in the kernel for an interrupt', async () => {
    const { vm } = memoryOnly()
    vm.createIrqchip()
    const vcpu = closeAfterTest(vm.createVcpu(0))
    const waiting = closeAfterTest(vm.createVcpu(1))
    enterRealMode(vcpu)
    for (let phase = 0; phase < KICKS; phase++) {
      // The second one waits for INIT and SIPI, which nobody sends.
      const run = waiting.run()
      await turns(phase % 7)
      await waiting.kick()
      expectExit(await run, 'interrupted')
    }
  })

  test('is not lost on a vCPU that exits all the time', async () => {
    const { vcpu } = realMode(EXIT, { rdx: 0x10n })
    const control = { stopped: false }
    const loop = runLoop(vcpu, control)
    for (let count = 0; count < KICKS; count++) {
      await vcpu.kick()
      await turns(count % 5)
    }
    control.stopped = true
    await vcpu.kick()
    expect((await loop)['io-out']).toBeGreaterThan(0)
  })

  test('reaches the one vCPU of several that it is for, and shows on no other', async () => {
    const spinning = [realMode(SPIN), realMode(SPIN), realMode(SPIN)].map(({ vcpu }) => vcpu)
    const runs = spinning.map((vcpu) => vcpu.run())
    const ended = [0, 0, 0]
    for (let count = 0; count < KICKS; count++) {
      const target = count % spinning.length
      await spinning[target]?.kick()
      expectExit(await (runs[target] as Promise<never>), 'interrupted')
      ended[target] = (ended[target] ?? 0) + 1
      runs[target] = (spinning[target] as Vcpu).run()
    }
    expect(spinning.map((vcpu) => vcpu.running)).toEqual([true, true, true])
    await Promise.all(spinning.map((vcpu) => vcpu.kick()))
    for (const run of runs) expectExit(await run, 'interrupted')
  })

  test('asked for many times at once ends one run', async () => {
    const { vcpu } = realMode(SPIN)
    const run = vcpu.run()
    await Promise.all([vcpu.kick(), vcpu.kick(), vcpu.kick()])
    expectExit(await run, 'interrupted')
  })

  test('leaves no signal behind, not on the threads that the kernel makes for a VM either', async () => {
    const { vcpu } = realMode(SPIN)
    for (let count = 0; count < KICKS; count++) {
      const run = vcpu.run()
      await turns(count % 5)
      await vcpu.kick()
      expectExit(await run, 'interrupted')
    }
    const queued = /^SigQ:\s*(\d+)\//m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1]
    // Of this user, whose other processes may have some too.
    expect(Number(queued)).toBeLessThan(KICKS / 2)
  })

  test.each([undefined, 0n])('works with the signal mask %s', async (mask) => {
    const { vcpu } = realMode(SPIN)
    vcpu.setSignalMask(mask)
    for (let count = 0; count < KICKS / 5; count++) {
      const run = vcpu.run()
      await turns(count % 7)
      await vcpu.kick()
      expectExit(await run, 'interrupted')
    }
  })

  test('works with another signal', async () => {
    const { vm, memory } = memoryOnly()
    memory.set(SPIN, 0x1000)
    const vcpu = closeAfterTest(vm.createVcpu(0, { kickSignal: 50 }))
    enterRealMode(vcpu)
    const run = vcpu.run()
    await turns(3)
    await vcpu.kick()
    expectExit(await run, 'interrupted')
  })
})

describe.skipIf(skipWithoutKvm)('a vCPU in KVM_RUN', () => {
  test('cannot be run again, closed, or closed with its VM; stop() ends and closes it', async () => {
    const { vm, vcpu } = realMode(SPIN)
    const run = vcpu.run()
    const running = expect.objectContaining({ code: 'ERR_KVM_VCPU_RUNNING' })
    await expect(vcpu.run()).rejects.toEqual(running)
    expect(() => vcpu.runSync()).toThrow(KvmError)
    expect(() => vcpu.close()).toThrow(KvmError)
    expect(() => vm.close()).toThrow(KvmError)
    expect([vcpu.closed, vm.closed]).toEqual([false, false])

    await vcpu.stop()
    expectExit(await run, 'interrupted')
    expect(vcpu.closed).toBe(true)
    vm.close()
    expect(vm.closed).toBe(true)
  })

  test('is stopped although its loop goes on, and by its VM', async () => {
    const { vm, vcpu } = realMode(EXIT, { rdx: 0x10n })
    const loop = runLoop(vcpu, { stopped: false })
    await turns(20)
    const ended = expect(loop).rejects.toMatchObject({ code: 'ERR_KVM_VCPU_STOPPED' })
    await vm.stop()
    await ended
    expect([vcpu.closed, vm.closed]).toEqual([true, true])
    await vm.stop()
  })

  test('one too many for the thread pool is refused, and the others go on', async () => {
    const { vm } = memoryOnly()
    vm.createIrqchip()
    vm.createVcpu(0)
    const size = Number(process.env['UV_THREADPOOL_SIZE'] ?? 4)
    // All but the first wait for INIT.
    const vcpus = Array.from({ length: size + 1 }, (_, index) => vm.createVcpu(index + 1))
    const runs = vcpus.slice(0, size).map((vcpu) => vcpu.run())
    const last = vcpus.at(-1) as Vcpu
    await expect(last.run()).rejects.toMatchObject({
      code: 'ERR_KVM_THREADPOOL_EXHAUSTED',
      message: expect.stringContaining(String(size)),
    })
    expect(last.running).toBe(false)

    await vcpus[0]?.kick()
    expectExit(await (runs[0] as Promise<never>), 'interrupted')
    const run = last.run()
    await Promise.all(vcpus.map((vcpu) => vcpu.kick()))
    expectExit(await run, 'interrupted')
    await Promise.all(runs)
  })
})
