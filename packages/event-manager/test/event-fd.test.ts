import { Worker } from 'node:worker_threads'
import { EventManager } from '@vmm/event-manager'
import { EventFd } from '@vmm/sys-util'
import { describe, expect, test } from 'vitest'
import { own, settle } from './harness.ts'

describe('an eventfd', () => {
  test('calls back once for all writes between two rounds, and again for the next', async () => {
    const manager = own(new EventManager())
    const event = own(new EventFd())
    let calls = 0
    manager.onEventFd(event, () => calls++)
    await settle()
    expect(calls).toBe(0)
    for (let round = 1; round <= 3; round++) {
      event.write()
      event.write(5)
      await settle()
      expect(calls).toBe(round)
    }
  })

  test('calls back for what came before the subscription, and for a write from the callback', async () => {
    const manager = own(new EventManager())
    const event = own(new EventFd(1))
    let calls = 0
    manager.onEventFd(event, () => {
      if (++calls < 3) event.write()
    })
    await settle()
    expect(calls).toBe(3)
  })

  test('is silent after close', async () => {
    const manager = own(new EventManager())
    const event = own(new EventFd(1))
    let calls = 0
    const subscription = manager.onEventFd(event, () => calls++)
    subscription.close()
    subscription.close()
    await settle()
    expect([calls, manager.size]).toEqual([0, 0])
    own({ close: () => subscription[Symbol.dispose]() })
    manager.close()
  })

  test('kicks from a worker thread by its number', async () => {
    const manager = own(new EventManager())
    const event = own(new EventFd())
    const kicks = 3
    let worker: Worker | undefined
    await new Promise<void>((resolve) => {
      let calls = 0
      manager.onEventFd(event, () => {
        if (++calls === kicks) resolve()
        else worker?.postMessage(null)
      })
      const program = `
        const { parentPort, workerData } = require('node:worker_threads')
        const kick = () => require('node:fs').writeSync(workerData, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]))
        parentPort.on('message', kick)
        kick()
      `
      worker = new Worker(program, { eval: true, workerData: event.fd })
    })
    await worker?.terminate()
    expect(event.read()).toBe(kicks)
  })
})
