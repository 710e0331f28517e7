/**
 * Devices that throw where nobody expects it: the VM goes on or ends as `failed`, and all of it can be closed.
 */
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Rng, type VirtioDevice } from '@vmm/devices/virtio'
import { type AttachDevice, MicroVm } from '@vmm/microvm'
import { beforeEach, expect, test } from 'vitest'
import { countingOutput } from '../support/counting-output.ts'
import { kernelImage } from '../support/elf.ts'
import { print } from '../support/guest-code.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { temporaryDirectory } from '../support/own.ts'
import { ringDoorbell } from '../support/ring-doorbell.ts'

const MEMORY = 2 ** 25
/** Pages of zeros: bare guests lie below. */
const RING = 2 ** 24
const LETTER = print('x')
/** Starts its device, and prints for ever. */
const GUEST = [...ringDoorbell(RING), ...LETTER, 0xeb, 0x100 - LETTER.length - 2]
const BROKEN = new Error('the device is broken')
const FAILED = { kind: 'failed', reason: BROKEN.message, cause: BROKEN }
const fail = (): never => {
  throw BROKEN
}

let kernel: string

const descriptors = () => readdirSync('/proc/self/fd').length

async function start(device: AttachDevice) {
  const output = countingOutput()
  const vm = await MicroVm.create({ kernel, memory: MEMORY, output, devices: [device] })
  const ended = vm.run()
  const goesOn = async () => {
    const before = output.printed
    while (output.printed === before) await sleep(1)
  }
  await goesOn()
  return { vm, ended, goesOn }
}

/** A device whose methods a test replaces. */
function attach(device: VirtioDevice): AttachDevice {
  return (host) => host.virtio.attach(device)
}

describeWithKvm('a device that throws', () => {
  beforeEach(() => {
    kernel = join(temporaryDirectory(), 'guest')
    writeFileSync(kernel, kernelImage(GUEST))
  })

  for (const [how, idle] of Object.entries({ throws: fail, rejects: () => Promise.reject(BROKEN) })) {
    test(`instead of coming to rest (${how}) fails the pause, and the VM goes on`, async () => {
      const device: VirtioDevice = new Rng()
      const { vm, ended, goesOn } = await start(attach(device))
      device.idle = idle
      for (let time = 0; time < 2; time++) {
        await expect(vm.pause()).rejects.toBe(BROKEN)
        await goesOn()
      }
      delete device.idle
      await vm.pause()
      vm.resume()
      await goesOn()
      vm.stop('enough')
      expect(await ended).toEqual({ kind: 'stopped', reason: 'enough' })
      vm.close()
    })
  }

  test('when the VM has ended makes that a failure, which can be closed and not run again', async () => {
    const device: VirtioDevice = new Rng()
    device.idle = fail
    let settled = false
    const { vm, ended } = await start((host) => {
      host.virtio.attach(device)
      host.beforeClose(async () => {
        settled = true
      })
    })
    vm.stop('enough')
    expect(await ended).toEqual(FAILED)
    expect(settled).toBe(true)
    await expect(vm.run()).rejects.toMatchObject({ code: 'ERR_MICROVM_RUN_ONCE' })
    vm.close()
  })

  test('when what it has under way is waited for makes that a failure, too', async () => {
    const { vm, ended } = await start((host) => host.beforeClose(fail))
    vm.stop('enough')
    expect(await ended).toEqual(FAILED)
    vm.close()
  })

  test('when the VM goes on ends it', async () => {
    const device: VirtioDevice = new Rng()
    const { vm, ended } = await start(attach(device))
    await vm.pause()
    device.notify = fail
    vm.resume()
    expect(await ended).toEqual(FAILED)
    vm.close()
  })

  test('when it is closed leaves nothing of the others', async () => {
    const before = descriptors()
    const failing: AttachDevice = (host) => {
      host.virtio.attach(new Rng())
      host.own({ close: fail })
    }
    const vm = await MicroVm.create({ kernel, memory: MEMORY, devices: [failing] })
    expect(() => vm.close()).toThrow(BROKEN)
    expect(descriptors()).toBe(before)
    expect(vm.ram).toMatchObject({ closed: true })
    vm.close()
    const first = new Error('the first')
    const refused = MicroVm.create({
      kernel,
      memory: MEMORY,
      devices: [failing, () => Promise.reject(first)],
    })
    await expect(refused).rejects.toBe(first)
    expect(descriptors()).toBe(before)
  })
})
