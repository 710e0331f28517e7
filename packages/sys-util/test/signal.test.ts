import { describe, expect, test } from 'vitest'
import {
  createPipe,
  installNoopHandler,
  SIGRTMAX,
  SIGRTMIN,
  signalThread,
  threadIds,
  threadSyscall,
} from '../src/index.ts'
import { libc } from '../src/libc.ts'
import { runInChild } from './child.ts'
import { own } from './resources.ts'

const SIGKILL = 9
const SIGSTOP = 19
const SIGNAL = 41
const SYS_READ = 0
/** Beyond the largest id that the kernel gives. */
const NO_THREAD = 2 ** 22 + 1

describe('numbers', () => {
  test.each([SIGKILL, SIGSTOP, 0, SIGRTMIN - 1, SIGRTMAX + 1, -1, 40.5, Number.NaN])(
    '%d is refused',
    (number) => {
      expect(() => installNoopHandler(number)).toThrow(expect.objectContaining({ code: 'EINVAL' }))
      expect(() => signalThread(process.pid, number)).toThrow(expect.objectContaining({ code: 'EINVAL' }))
    },
  )

  test('all real-time signals can have the handler', () => {
    for (let number = SIGRTMIN; number <= SIGRTMAX; number++) installNoopHandler(number)
  })
})

describe('threads', () => {
  test('the first thread has the id of the process, and gets the signal without effect', () => {
    installNoopHandler(SIGNAL)
    expect(threadIds()).toContain(process.pid)
    expect(threadSyscall(process.pid)).not.toBe('')
    expect(signalThread(process.pid, SIGNAL)).toBe(true)
  })

  test('a thread that has gone is no error', () => {
    expect(signalThread(NO_THREAD, SIGNAL)).toBe(false)
    expect(threadSyscall(NO_THREAD)).toBe('')
  })

  test('without the handler the signal ends the process', () => {
    expect(() => runInChild(`signalThread(process.pid, ${SIGNAL})`)).toThrow()
  })

  // libuv blocks all signals in its threads: what a kick can reach is what KVM_SET_SIGNAL_MASK lets through.
  test('a pool thread blocked in a read is found, and a signal neither ends its call nor is lost', async () => {
    installNoopHandler(SIGNAL)
    const [reader, writer] = createPipe(0)
    own(reader)
    own(writer)
    const buffer = new Uint8Array(8)
    let result: number | undefined
    const done = new Promise<void>((resolve) => {
      libc().read.async(reader.fd, buffer, buffer.length, (_error: unknown, value: number) => {
        result = value
        resolve()
      })
    })
    const state = `${SYS_READ} 0x${reader.fd.toString(16)} `
    let blocked: number | undefined
    while (blocked === undefined) {
      await new Promise((resolve) => setImmediate(resolve))
      blocked = threadIds().find((tid) => threadSyscall(tid).startsWith(state))
    }
    expect(signalThread(blocked, SIGNAL)).toBe(true)
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1))
    expect(result).toBeUndefined()
    libc().write(writer.fd, new Uint8Array(3), 3)
    await done
    expect(result).toBe(3)
  })
})
