/** When data is durable: with fdatasync(2) held up until the test lets it end. */
import { type NoParamCallback, readdirSync } from 'node:fs'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { DiskFile, FileDisk, openDisk } from '../src/index.ts'
import {
  DATA,
  DiskGuest,
  diskFile,
  F_CONFIG_WCE,
  F_FLUSH,
  own,
  pattern,
  S_IOERR,
  S_OK,
  SECTOR,
  T_FLUSH,
  T_IN,
  T_OUT,
  T_WRITE_ZEROES,
} from './support.ts'

type End = (error?: Error) => Promise<void>

const held = vi.hoisted(() => ({ ends: [] as End[], calls: 0 }))

vi.mock('node:fs', async (original) => {
  const real = await original<typeof import('node:fs')>()
  const fdatasync = (fd: number, callback: NoParamCallback) => {
    held.calls += 1
    held.ends.push(
      (failure) =>
        new Promise((resolve) => {
          real.fdatasync(fd, (error) => {
            callback(failure ?? error)
            resolve()
          })
        }),
    )
  }
  return { ...real, fdatasync }
})

beforeEach(() => {
  Object.assign(held, { ends: [], calls: 0 })
})

const SIZE = 64 * SECTOR
/** A driver without a write cache: it can neither flush nor choose. */
const WRITE_THROUGH = F_FLUSH | F_CONFIG_WCE

function setUp(without = 0) {
  const path = diskFile(SIZE)
  const file = own(new DiskFile(path))
  const disk = own(new FileDisk(file, { engine: 'threads' }))
  return { path, file, disk, guest: new DiskGuest(disk, undefined, { without }) }
}

/** Lets the fdatasync that is under way end. */
async function end(error?: Error): Promise<void> {
  const [first, ...others] = held.ends.splice(0)
  expect(others).toEqual([])
  await first?.(error)
}

test('a flush ends when fdatasync does, and nothing waits for it meanwhile', async () => {
  const { guest } = setUp()
  guest.send(T_FLUSH, 0)
  expect(guest.blk.pending).toBe(1)
  expect(guest.driver.reap()).toBeUndefined()
  expect(guest.request(T_OUT, 1, [{ address: DATA, length: SECTOR }])).toEqual({ status: S_OK, length: 1 })
  expect(held.calls).toBe(1)
  await end()
  expect(guest.answer()).toEqual({ status: S_OK, length: 1 })
  expect(guest.failures).toEqual([])
})

test('a flush that comes while another is under way gets one of its own', async () => {
  const { guest } = setUp()
  guest.send(T_FLUSH, 0)
  guest.send(T_FLUSH, 0)
  guest.send(T_FLUSH, 0)
  expect(held.calls).toBe(1)
  await end()
  expect(guest.driver.reapAll()).toHaveLength(1)
  // The two others share theirs.
  expect(held.calls).toBe(2)
  await end()
  expect(guest.driver.reapAll()).toHaveLength(2)
  expect([held.calls, guest.blk.pending]).toEqual([2, 0])
})

describe('a driver without a write cache', () => {
  test('has its writes on the medium before they are completed, in as few calls as there are turns', async () => {
    const { guest } = setUp(WRITE_THROUGH)
    const data = [{ address: DATA, length: SECTOR }]
    guest.send(T_OUT, 1, data)
    expect(held.calls).toBe(1)
    guest.send(T_OUT, 2, data)
    guest.send(T_WRITE_ZEROES, 0, guest.range(3, 1))
    expect(guest.driver.reap()).toBeUndefined()
    await end()
    expect(guest.driver.reapAll()).toHaveLength(1)
    await end()
    expect(guest.driver.reapAll()).toHaveLength(2)
    expect(held.calls).toBe(2)
  })

  test('reads at once', () => {
    const { guest } = setUp(WRITE_THROUGH)
    expect(guest.request(T_IN, 1, [{ address: DATA, length: SECTOR, writable: true }]).status).toBe(S_OK)
    expect(held.calls).toBe(0)
  })
})

describe('a flush that fails', () => {
  const lost = Object.assign(new Error('the medium'), { code: 'EIO' })

  test('fails all flushes after it, since what was lost is told of once', async () => {
    const { guest, path } = setUp()
    guest.send(T_FLUSH, 0)
    await end(lost)
    expect(guest.answer()).toEqual({ status: S_IOERR, length: 1 })
    const message = `disk ${path} cannot be flushed: EIO`
    expect(guest.failures).toMatchObject([{ code: 'ERR_BLOCK_IO', message, cause: lost }])
    guest.send(T_FLUSH, 0)
    await end()
    expect(guest.answer().status).toBe(S_IOERR)
    expect(guest.failures).toHaveLength(2)
    expect((await guest.write(1, pattern(SECTOR))).status).toBe(S_OK)
  })

  test('fails writes that are to be durable', async () => {
    const { guest } = setUp(WRITE_THROUGH)
    guest.send(T_OUT, 1, [{ address: DATA, length: SECTOR }])
    await end(lost)
    expect(guest.answer().status).toBe(S_IOERR)
    guest.send(T_OUT, 1, [{ address: DATA, length: SECTOR }])
    await end()
    expect(guest.answer().status).toBe(S_IOERR)
  })
})

describe('closing while a flush is under way', () => {
  test('keeps file and lock until it has ended, and completes nothing', async () => {
    const { path, file, disk, guest } = setUp()
    guest.send(T_FLUSH, 0)
    guest.send(T_FLUSH, 0)
    disk.close()
    expect([disk.closed, file.closed]).toEqual([true, false])
    expect(() => openDisk(path)).toThrow(expect.objectContaining({ code: 'ERR_BLOCK_LOCKED' }))
    disk.close()
    expect(file.closed).toBe(false)
    await end()
    expect([file.closed, held.calls]).toEqual([true, 1])
    expect(guest.driver.reap()).toBeUndefined()
    own(openDisk(path, { engine: 'sync' }))
    expect(guest.request(T_FLUSH, 0).status).toBe(S_IOERR)
    expect(held.calls).toBe(1)
  })

  test('leaves no descriptor behind when the flush fails', async () => {
    const before = readdirSync('/proc/self/fd').length
    const { disk, guest } = setUp()
    guest.send(T_FLUSH, 0)
    disk.close()
    await end(new Error('too late'))
    expect(readdirSync('/proc/self/fd')).toHaveLength(before)
    expect(guest.failures).toEqual([])
  })
})

test('a reset does not wait for a flush, whose answer goes nowhere', async () => {
  const { guest } = setUp()
  guest.send(T_FLUSH, 0)
  guest.reset()
  expect(guest.blk.pending).toBe(1)
  await end()
  expect(guest.blk.pending).toBe(0)
  expect(guest.driver.reap()).toBeUndefined()
})
