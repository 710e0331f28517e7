/**
 * Pausing a VM and going on, at any time and as often as anybody likes.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { BOOT_MARKER, BOOT_TIMER_PORT } from '@vmm/devices'
import { MicroVm } from '@vmm/microvm'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { countingOutput } from '../support/counting-output.ts'
import { kernelImage } from '../support/elf.ts'
import { print } from '../support/guest-code.ts'
import { describeWithKvm } from '../support/kvm.ts'

const MEMORY = 2 ** 25
const LETTER = print('x')
/** Prints for ever. */
const CHATTER = [...LETTER, 0xeb, 0x100 - LETTER.length - 2]
const NOT_RUNNING = { code: 'ERR_MICROVM_NOT_RUNNING' }
const NOT_PAUSED = { code: 'ERR_MICROVM_NOT_PAUSED' }

let folder: string

/** A guest that marks its boot, and then prints for ever. */
async function makeVm(bootMarker?: () => void) {
  const kernel = join(folder, 'guest')
  writeFileSync(
    kernel,
    kernelImage([...print(String.fromCharCode(BOOT_MARKER), BOOT_TIMER_PORT), ...CHATTER]),
  )
  const output = countingOutput()
  const vm = await MicroVm.create({ kernel, memory: MEMORY, output, events: bootMarker && { bootMarker } })
  return { vm, printed: () => output.printed }
}

describeWithKvm('a VM', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-pause-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('stands still while it is paused, however often that is asked, and goes on', async () => {
    const { vm, printed } = await makeVm()
    const ended = vm.run()
    for (let round = 0; round < 3; round++) {
      const start = printed()
      while (printed() < start + 10) await sleep(1)
      await Promise.all([vm.pause(), vm.pause()])
      await vm.pause()
      const before = printed()
      await sleep(20)
      expect(printed()).toBe(before)
      const state = await vm.state()
      expect((await vm.state()).vcpus[0]?.regs.rip).toBe(state.vcpus[0]?.regs.rip)
      vm.resume()
      vm.resume()
    }
    vm.stop('enough')
    expect(await ended).toEqual({ kind: 'stopped', reason: 'enough' })
    vm.close()
  })

  test('that does not run is not paused, and can be when it runs', async () => {
    const { vm, printed } = await makeVm()
    await expect(vm.pause()).rejects.toMatchObject(NOT_RUNNING)
    await expect(vm.state()).rejects.toMatchObject(NOT_PAUSED)
    const ended = vm.run()
    while (printed() === 0) await sleep(1)
    await vm.pause()
    vm.stop('while it is paused')
    expect((await ended).kind).toBe('stopped')
    vm.resume()
    await expect(vm.pause()).rejects.toMatchObject(NOT_RUNNING)
    vm.close()
  })

  test('that is told to go on before it stands still goes on, and who waits for either is told', async () => {
    const { vm, printed } = await makeVm()
    const ended = vm.run()
    while (printed() === 0) await sleep(1)
    for (let turns = 0; turns < 4; turns++) {
      const paused = vm.pause()
      const saved = vm.state()
      const outcomes = Promise.allSettled([paused, saved])
      for (let turn = 0; turn < turns; turn++) await undefined
      vm.resume()
      for (const outcome of await outcomes) expect(outcome).toMatchObject({ reason: NOT_PAUSED })
      const start = printed()
      while (printed() === start) await sleep(1)
      await vm.pause()
      const before = printed()
      await sleep(20)
      expect(printed()).toBe(before)
      const late = vm.state()
      vm.resume()
      await expect(late).rejects.toMatchObject(NOT_PAUSED)
    }
    vm.stop('enough')
    await ended
    vm.close()
    await expect(vm.state()).rejects.toMatchObject(NOT_PAUSED)
  })

  test('settles whatever it is asked, in any order, and can be ended and closed', async () => {
    const steps = fc.array(fc.constantFrom('pause', 'resume', 'state', 'turn', 'wait', 'stop'), {
      maxLength: 16,
    })
    await fc.assert(
      fc.asyncProperty(steps, async (steps) => {
        const { vm } = await makeVm()
        const ended = vm.run()
        const asked: Promise<unknown>[] = []
        for (const step of steps) {
          if (step === 'pause') asked.push(vm.pause())
          else if (step === 'state') asked.push(vm.state())
          else if (step === 'resume') vm.resume()
          else if (step === 'stop') vm.stop(step)
          // One turn of promises, or some of the event loop.
          else await (step === 'turn' ? undefined : sleep(1))
          asked.at(-1)?.catch(() => {})
        }
        vm.stop('stop')
        expect(await ended).toEqual({ kind: 'stopped', reason: 'stop' })
        for (const outcome of await Promise.allSettled(asked)) {
          if (outcome.status === 'rejected')
            expect([NOT_PAUSED.code, NOT_RUNNING.code]).toContain(outcome.reason.code)
        }
        vm.close()
      }),
      { numRuns: 60 },
    )
  })

  test('that is stopped while it is about to stand still does not', async () => {
    const { vm, printed } = await makeVm()
    const ended = vm.run()
    while (printed() === 0) await sleep(1)
    const paused = vm.pause()
    vm.stop('enough')
    await expect(paused).rejects.toMatchObject(NOT_RUNNING)
    expect(await ended).toEqual({ kind: 'stopped', reason: 'enough' })
    vm.close()
  })

  test('that is paused by its own exit gets no further than that', async () => {
    let paused: Promise<void> | undefined
    const { vm, printed } = await makeVm(() => {
      paused = vm.pause()
    })
    const ended = vm.run()
    while (paused === undefined) await sleep(1)
    await paused
    expect(printed()).toBe(0)
    vm.resume()
    while (printed() === 0) await sleep(1)
    vm.stop('enough')
    await ended
    vm.close()
  })
})
