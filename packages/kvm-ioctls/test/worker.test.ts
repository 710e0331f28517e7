import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Vcpu } from '../src/index.ts'
import { bundle } from './bundle.ts'
import { closeAfterTest, realMode, skipWithoutKvm } from './harness.ts'

// Each is an endless loop at CODE_ADDRESS.
const SPIN = [0xeb, 0xfe] // jmp $
const EXIT = [0xee, 0xeb, 0xfd] // out dx, al; jmp -1

const KICKS = 250

/** Runs the vCPU in a loop until it is told to stop, and counts what it sees. */
const WORKER = `
  const { parentPort, workerData } = require('node:worker_threads')
  import(workerData.module).then(({ Vcpu }) => {
    const vcpu = Vcpu.attach(workerData.descriptor)
    const control = new Int32Array(workerData.control)
    const exits = {}
    parentPort.postMessage('ready')
    while (Atomics.load(control, 0) === 0) {
      const { reason } = vcpu.runSync()
      exits[reason] = (exits[reason] ?? 0) + 1
    }
    vcpu.close()
    parentPort.postMessage(exits)
  })`

let module: string
beforeAll(async () => {
  if (!skipWithoutKvm) module = await bundle()
})

async function startWorker(vcpu: Vcpu): Promise<{
  worker: Worker
  stop: () => Promise<Record<string, number>>
}> {
  const control = new SharedArrayBuffer(4)
  const workerData = { module, descriptor: vcpu.descriptor, control }
  const worker = new Worker(WORKER, { eval: true, workerData })
  closeAfterTest({ [Symbol.dispose]: () => void worker.terminate() })
  await once(worker, 'message')
  const stop = async (): Promise<Record<string, number>> => {
    const result = once(worker, 'message')
    Atomics.store(new Int32Array(control), 0, 1)
    // A worker between two runs sees what it is told at once, and has no more runs for a kick to end.
    const stopped = new AbortController()
    const kicked = vcpu.kickRemote(stopped.signal).catch((error: Error) => error.name)
    const [exits] = await result
    stopped.abort()
    expect([undefined, 'AbortError']).toContain(await kicked)
    return exits
  }
  return { worker, stop }
}

describe.skipIf(skipWithoutKvm)('a vCPU that a worker runs by runSync()', () => {
  test('is kicked out of a guest that spins, each of hundreds of times', async () => {
    const { vcpu } = realMode(SPIN)
    const { stop } = await startWorker(vcpu)
    for (let count = 0; count < KICKS; count++) await vcpu.kickRemote()
    const exits = await stop()
    expect(Object.keys(exits)).toEqual(['interrupted'])
    // The last one may have come when the worker had already seen that it is to stop.
    expect(exits['interrupted']).toBeGreaterThanOrEqual(KICKS)
  })

  test('is told to stop while it exits all the time', async () => {
    const { vcpu } = realMode(EXIT, { rdx: 0x10n })
    const { stop } = await startWorker(vcpu)
    for (let count = 0; count < KICKS; count++) await vcpu.kickRemote()
    expect((await stop())['io-out']).toBeGreaterThan(0)
  })

  test('keeps a kick for its next run', async () => {
    const { vcpu } = realMode(EXIT)
    const kicked = vcpu.kickRemote()
    expect(vcpu.runSync().reason).toBe('interrupted')
    await kicked
    expect(vcpu.runSync().reason).toBe('io-out')
  })

  test('can be given up on', async () => {
    const { vcpu } = realMode(SPIN)
    await expect(vcpu.kickRemote(AbortSignal.timeout(1))).rejects.toMatchObject({ name: 'AbortError' })
  })
})

/** Runs `VCPUS` vCPUs at once that spin, in a process of its own, and kicks them all. Prints what became of them. */
const VCPUS = 7
const CROWD = `
  async function crowd({ Kvm }) {
    const kvm = Kvm.open()
    const vm = kvm.createVm()
    vm.createIrqchip()
    vm.createVcpu(0)
    // All but the first wait for INIT.
    const vcpus = Array.from({ length: ${VCPUS} }, (_, index) => vm.createVcpu(index + 1))
    const ends = vcpus.map((vcpu) => vcpu.run().then((exit) => exit.reason, (error) => error.code))
    await new Promise((resolve) => setTimeout(resolve, 300))
    await Promise.all(vcpus.map((vcpu) => vcpu.kick()))
    console.log(JSON.stringify(await Promise.all(ends)))
    vm.close()
    kvm.close()
  }`

function runCrowd(script: string, threads?: number): string[] {
  const { UV_THREADPOOL_SIZE: _, ...env } = process.env
  const sized = threads === undefined ? env : { ...env, UV_THREADPOOL_SIZE: String(threads) }
  const output = execFileSync(process.execPath, ['-e', script], { encoding: 'utf8', env: sized })
  return JSON.parse(output)
}

describe.skipIf(skipWithoutKvm)('a pool', () => {
  test('holds as many runs as UV_THREADPOOL_SIZE said when the process started', () => {
    const script = `${CROWD}; import('${module}').then(crowd)`
    const reasons = runCrowd(script, VCPUS - 1)
    expect(reasons.filter((reason) => reason === 'interrupted')).toHaveLength(VCPUS - 1)
    expect(reasons.filter((reason) => reason === 'ERR_KVM_THREADPOOL_EXHAUSTED')).toHaveLength(1)
  })

  test('holds as many runs as a script has set before the pool was used', () => {
    const script = `process.env.UV_THREADPOOL_SIZE = '${VCPUS}'; ${CROWD}; import('${module}').then(crowd)`
    expect(new Set(runCrowd(script))).toEqual(new Set(['interrupted']))
  })

  test('has no more threads for a script that sets it too late, and refuses', () => {
    const late = `require('node:fs').stat('/', () => { process.env.UV_THREADPOOL_SIZE = '${VCPUS}'; import('${module}').then(crowd) })`
    const reasons = runCrowd(`${CROWD}; ${late}`)
    expect(reasons.filter((reason) => reason === 'interrupted')).toHaveLength(4)
    expect(reasons.filter((reason) => reason === 'ERR_KVM_THREADPOOL_EXHAUSTED')).toHaveLength(VCPUS - 4)
  })
})
