/**
 * A VM that has booted is saved as a whole once, mapped from that, and saved by its differences from then on.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { MicroVm, stateFromJson, stateToJson } from '@vmm/microvm'
import { Snapshot, writeSnapshot } from '@vmm/snapshot'
import { MappedMemory, privateRuns } from '@vmm/vm-memory/mmap'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { kernelImage } from '../support/elf.ts'
import { describeWithKvm } from '../support/kvm.ts'

const MEMORY = 2 ** 25
const COUNTER = 0x180_0000
const PAGE = 4096
/** 1: incl COUNTER; out %al, $0x80; jmp 1b: it counts in memory, and comes out each time. */
const COUNT = [0xff, 0x04, 0x25, 0x00, 0x00, 0x80, 0x01, 0xe6, 0x80, 0xeb, 0xf5]

let folder: string

const counter = (vm: MicroVm) => vm.memory.readUint32(COUNTER)

async function untilBeyond(vm: MicroVm, count: number): Promise<void> {
  while (counter(vm) <= count) await sleep(1)
}

/** Saves a paused VM. */
async function save(vm: MicroVm, differential: boolean) {
  const state = stateToJson(await vm.state())
  return writeSnapshot(join(folder, 'saved'), { state, memory: vm.memory, differential })
}

describeWithKvm('a VM that has booted', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-rebase-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('goes on when its memory is mapped from its snapshot, and is saved by what it writes then', async () => {
    const kernel = join(folder, 'guest')
    writeFileSync(kernel, kernelImage(COUNT))
    const vm = await MicroVm.create({ kernel, memory: MEMORY })
    const ended = vm.run()
    await untilBeyond(vm, 10)
    await vm.pause()
    expect((await save(vm, true)).kind).toBe('full')
    const before = counter(vm)
    const first = Snapshot.open(join(folder, 'saved'))
    expect(vm.ram).toBeInstanceOf(MappedMemory)
    first.rebase(vm.ram as MappedMemory)
    first.close()
    expect(counter(vm)).toBe(before)
    expect(vm.memory.regions.flatMap((region) => privateRuns(region))).toEqual([])
    vm.resume()
    await untilBeyond(vm, before + 10)
    await vm.pause()
    const written = await save(vm, true)
    expect(written.kind).toBe('differential')
    expect(written.memoryBytes).toBeGreaterThanOrEqual(PAGE)
    expect(written.memoryBytes).toBeLessThanOrEqual(8 * PAGE)
    const saved = counter(vm)
    vm.stop('saved')
    await ended
    vm.close()

    const second = Snapshot.open(join(folder, 'saved'))
    const { external } = process.memoryUsage()
    const restored = await MicroVm.restore(stateFromJson(second.state), second.mapMemory())
    second.close()
    // A restore looks at no memory: V8 would collect garbage for a view of it, the longer the larger it is.
    expect(process.memoryUsage().external - external).toBeLessThan(MEMORY / 2)
    expect(counter(restored)).toBe(saved)
    const over = restored.run()
    await untilBeyond(restored, saved + 10)
    restored.stop('seen')
    await over
    restored.close()
  })
})
