/**
 * Many VMs in one process, on real KVM: bare-metal guests of a few instructions with devices, in a process whose thread pool is
 * as large as it says.
 */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Bundle, bundle } from '../support/bundle.ts'
import { describeWithKvm } from '../support/kvm.ts'

const ROOT = join(import.meta.dirname, '../..')
/** What memory may grow by for each VM that has come and gone, in bytes: what is resident, and V8's heap. One that stays has 100 KiB. */
const GROWTH_MAX = 16_384
const HEAP_GROWTH_MAX = 4096

let bundled: Bundle

/** Runs tests/support/many-vms.ts. */
async function run(command: string, threads: number | undefined) {
  const { UV_THREADPOOL_SIZE: _, ...env } = process.env
  const sized = threads === undefined ? env : { ...env, UV_THREADPOOL_SIZE: String(threads) }
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [join(bundled.folder, 'many-vms.js'), command, bundled.folder],
    { env: sized },
  )
  return JSON.parse(stdout)
}

/** What is the same number whenever no VM is there. */
const counted = ({ descriptors, kvmMappings, guestSized, active }: Record<string, unknown>) => ({
  descriptors,
  kvmMappings,
  guestSized,
  active,
})

describeWithKvm('many VMs in one process', () => {
  beforeAll(async () => {
    bundled = await bundle(ROOT, { 'many-vms': join(ROOT, 'tests/support/many-vms.ts') })
  })
  afterAll(() => bundled.remove())

  test('200 at once: those that die take nobody along, and nothing is left of any', async () => {
    const { ends, aliveAtOnce, before, after } = await run('hundreds', 208)
    expect(ends).toEqual({
      halts: ['stopped'],
      prints: ['exithello\n'],
      'triple-faults': ['died'],
      'executes-nothing': ['died'],
      'breaks-a-device': ['failed'],
      'breaks-a-queue': ['failed'],
      waits: ['stopped'],
      spins: ['stopped'],
    })
    expect(aliveAtOnce).toBeGreaterThan(150)
    expect(counted(after)).toEqual(counted(before))
    expect(after).toMatchObject({ kvmMappings: 0, guestSized: 0 })
  })

  test('hundreds one after another leave no descriptor, mapping, timer or memory', async () => {
    const { vms, growth, before, after } = await run('rounds', 64)
    expect(counted(after)).toEqual(counted(before))
    expect((after.mappings - before.mappings) / vms).toBeLessThan(0.5)
    expect(growth).toBeLessThan(GROWTH_MAX)
    for (const kind of ['heapUsed', 'external']) {
      expect((after.memory[kind] - before.memory[kind]) / vms).toBeLessThan(HEAP_GROWTH_MAX)
    }
  })

  for (const [title, threads, fit] of [
    ['four threads, as by default', undefined, 3],
    ['six threads', 6, 5],
  ] as const) {
    test(`with ${title}, ${fit} vCPUs fit: more are refused, all or none of a VM, and files and DNS go on`, async () => {
      const result = await run('limit', threads)
      expect(result.refusal).toEqual({
        name: 'MicroVmError',
        code: 'ERR_MICROVM_THREADS',
        message: expect.stringMatching(
          new RegExp(
            `^the VM cannot run: no threads for 1 vCPU: libuv's pool has ${fit + 1}, of which ${fit} vCPUs have`,
          ),
        ),
        vms: fit,
      })
      expect(result).toMatchObject({
        files: true,
        address: true,
        refused: 'ERR_MICROVM_THREADS',
        exitsOfRefused: 0,
        reason: 'it ran',
        others: ['told to'],
      })
    })
  }
})
