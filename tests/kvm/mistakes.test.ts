/**
 * What a VMM's author gets wrong, in a language that checks no types: each ends in one sentence, and nothing is lost by it.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Rng } from '@vmm/devices/virtio'
import { MicroVm, type MicroVmOptions, type MicroVmState, stateToJson } from '@vmm/microvm'
import { MappedMemory } from '@vmm/vm-memory/mmap'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { kernelImage } from '../support/elf.ts'
import { SPIN } from '../support/guest-code.ts'
import { describeWithKvm } from '../support/kvm.ts'

const MEMORY = 2 ** 25
const OPTION = 'ERR_MICROVM_OPTION'
const RUN_ONCE = { code: 'ERR_MICROVM_RUN_ONCE', message: 'a VM runs once: make another one' }

let folder: string
let kernel: string

describeWithKvm('a mistake', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-mistakes-'))
    kernel = join(folder, 'guest')
    writeFileSync(kernel, kernelImage(SPIN))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  const create = (options: object) => MicroVm.create({ kernel, memory: MEMORY, ...options } as MicroVmOptions)

  test('in the options is said by the name of the option', async () => {
    for (const [options, message] of [
      [{ kernel: undefined }, 'kernel, the path of a kernel image, is missing'],
      [{ entry: 'uefi' }, 'entry is one of auto, linux64, pvh, bzimage, not uefi'],
      [{ discovery: 'pci' }, 'discovery is one of both, acpi, cmdline, not pci'],
      [
        { devices: [new Rng()] },
        'devices[0] is not a function, such as (host) => host.virtio.attach(new Rng())',
      ],
    ] as const) {
      await expect(create(options)).rejects.toMatchObject({ code: OPTION, message })
    }
  })

  test('to run a VM twice, or to close one that runs, does not disturb it', async () => {
    const vm = await create({})
    const ended = vm.run()
    await expect(vm.run()).rejects.toMatchObject(RUN_ONCE)
    expect(() => vm.close()).toThrow('the VM runs: call stop, and close it when run has settled')
    await vm.pause()
    vm.resume()
    vm.stop('enough')
    expect(await ended).toEqual({ kind: 'stopped', reason: 'enough' })
    await expect(vm.run()).rejects.toMatchObject(RUN_ONCE)
    vm.close()
  })

  test('in what is restored is said, too', async () => {
    const vm = await create({})
    const ended = vm.run()
    await vm.pause()
    const state = await vm.state()
    vm.stop('enough')
    await ended
    vm.close()
    const memory = (size: number) => MappedMemory.anonymous([{ start: 0, size }])
    const json = stateToJson(state) as unknown as MicroVmState
    for (const wrong of [json, null as unknown as MicroVmState]) {
      await expect(MicroVm.restore(wrong, memory(MEMORY))).rejects.toMatchObject({
        code: 'ERR_MICROVM_STATE',
        message: 'this is no state: what was saved goes through stateFromJson',
      })
    }
    await expect(MicroVm.restore(state, memory(MEMORY / 2))).rejects.toMatchObject({
      code: 'ERR_MICROVM_STATE',
      message: 'the saved VM had its memory at 0x0-0x1ffffff, this is at 0x0-0xffffff',
    })
  })

  test('to run a VM that is closed is said', async () => {
    const vm = await create({})
    vm.close()
    await expect(vm.run()).rejects.toMatchObject(RUN_ONCE)
  })
})
