/**
 * Pages on demand. Whoever touches a missing page waits in the kernel: here that is a thread of libuv's pool, since this one
 * serves it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import {
  addressOf,
  createMemfd,
  currentThreadId,
  EPOLLIN,
  MADV_DONTNEED,
  Mapping,
  preadInto,
  pwriteFrom,
  SystemError,
  threadIds,
  UserFaultFd,
  watch,
} from '../src/index.ts'
import { libc } from '../src/libc.ts'
import * as abi from '../src/userfaultfd-abi.ts'
import { runInChild } from './child.ts'
import { evaluate, skipWithoutCompiler } from './compiler.ts'
import { countFds, fdFlags, O_CLOEXEC, O_NONBLOCK, own } from './resources.ts'

const PAGE = 4096
const EEXIST = -17
const ENOENT = -2
const EAGAIN = -11

function isForbidden(): boolean {
  try {
    new UserFaultFd().close()
    return false
  } catch (error) {
    return !('CI' in process.env) && error instanceof SystemError
  }
}

const reason = isForbidden() ? ' (skipped: this host allows no userfaultfd)' : ''

interface Fault {
  readonly address: number
  readonly threadId: number
  readonly isWrite: boolean
}

/** Pages of memory of which all are missing, and what happens to them. */
function missing(pages: number) {
  const mapping = own(new Mapping({ size: pages * PAGE }))
  const faults = own(new UserFaultFd())
  faults.register(mapping.address, mapping.size)
  return { mapping, faults, base: Number(mapping.address) }
}

async function nextFault(faults: UserFaultFd): Promise<Fault> {
  return new Promise((resolve) => {
    const watching = watch(faults.fd, EPOLLIN, () => {
      faults.read({
        pageFault: (address, threadId, isWrite) => {
          watching.close()
          resolve({ address, threadId, isWrite })
        },
        remove: () => {},
      })
    })
  })
}

/** One byte of memory, or of a file into memory, by a system call on another thread. */
function touch(address: bigint, how: 'read' | 'write'): Promise<number> {
  const file = own(createMemfd('byte', 1))
  pwriteFrom(file.fd, addressOf(Uint8Array.of(0x77)), 1, 0)
  const call = how === 'read' ? libc().pwrite : libc().pread
  return new Promise((resolve) => {
    call.async(file.fd, address, 1, 0, (_error: unknown, result: number) => {
      if (result !== 1) return resolve(-1)
      const byte = new Uint8Array(1)
      preadInto(file.fd, addressOf(byte), 1, 0)
      resolve(byte[0] ?? -1)
    })
  })
}

describe.skipIf(reason !== '')(`a userfaultfd${reason}`, () => {
  test('is close-on-exec and non-blocking, and gone when it is closed', () => {
    const before = countFds()
    const faults = new UserFaultFd()
    expect(fdFlags(faults.fd) & (O_CLOEXEC | O_NONBLOCK)).toBe(O_CLOEXEC | O_NONBLOCK)
    faults.close()
    faults.close()
    expect(countFds()).toBe(before)
    expect(() => faults.register(0, PAGE)).toThrow(expect.objectContaining({ code: 'EBADF' }))
  })

  test('tells who waits for which page, and gives it', async () => {
    const { mapping, faults, base } = missing(4)
    expect(faults.read({ pageFault: () => {}, remove: () => {} })).toBe(0)
    const byte = touch(mapping.address + BigInt(2 * PAGE + 5), 'read')
    const fault = await nextFault(faults)
    expect(fault).toMatchObject({ address: base + 2 * PAGE, isWrite: false })
    expect(threadIds()).toContain(fault.threadId)
    expect(fault.threadId).not.toBe(currentThreadId())
    const pages = new Uint8Array(2 * PAGE).fill(0x5a)
    expect(faults.copy(fault.address, addressOf(pages), pages.length)).toBe(pages.length)
    expect(await byte).toBe(0x5a)
    expect(new Uint8Array(mapping.view(3 * PAGE, 1))[0]).toBe(0x5a)
  })

  test('gives zeros, for reading and for writing', async () => {
    const { mapping, faults, base } = missing(2)
    const read = touch(mapping.address, 'read')
    expect((await nextFault(faults)).address).toBe(base)
    expect(faults.zero(base, PAGE)).toBe(PAGE)
    expect(await read).toBe(0)
    const written = touch(mapping.address + BigInt(PAGE), 'write')
    expect(await nextFault(faults)).toMatchObject({ address: base + PAGE, isWrite: true })
    expect(faults.zero(base + PAGE, PAGE)).toBe(PAGE)
    expect(await written).toBe(0x77)
    expect([...new Uint8Array(mapping.view(PAGE, 2))]).toEqual([0x77, 0])
  })

  test('leaves pages alone that are there, and says how far it came', () => {
    const { faults, base } = missing(4)
    const pages = new Uint8Array(4 * PAGE).fill(1)
    expect(faults.zero(base + 2 * PAGE, PAGE)).toBe(PAGE)
    expect(faults.copy(base, addressOf(pages), pages.length)).toBe(2 * PAGE)
    expect(faults.copy(base + 2 * PAGE, addressOf(pages), PAGE)).toBe(EEXIST)
    expect(faults.zero(base + 2 * PAGE, PAGE)).toBe(EEXIST)
    expect(() => faults.wake(base + 2 * PAGE, PAGE)).not.toThrow()
  })

  test('tells of pages that are given back, which are missing again; until then no page is put there', async () => {
    const { mapping, faults, base } = missing(4)
    const page = new Uint8Array(PAGE).fill(9)
    expect(faults.copy(base, addressOf(page), PAGE)).toBe(PAGE)
    const discarded = new Promise<number>((resolve) => {
      const { madvise } = libc()
      madvise.async(mapping.address, PAGE, MADV_DONTNEED, (_: unknown, result: number) => resolve(result))
    })
    while (faults.copy(base + PAGE, addressOf(page), PAGE) !== EAGAIN) await sleep(1)
    const removed: number[][] = []
    expect(faults.read({ pageFault: () => {}, remove: (...range) => removed.push(range) })).toBe(1)
    expect(removed).toEqual([[base, base + PAGE]])
    expect(await discarded).toBe(0)
    expect(faults.zero(base, PAGE)).toBe(PAGE)
    expect(new Uint8Array(mapping.view())[0]).toBe(0)
  })

  test('lets go of memory when it is told to, or closed: who waits finds zeros', async () => {
    const { mapping, faults, base } = missing(4)
    const first = touch(mapping.address, 'read')
    await nextFault(faults)
    faults.unregister(base, 2 * PAGE)
    expect(await first).toBe(0)
    expect(faults.copy(base + PAGE, addressOf(new Uint8Array(PAGE)), PAGE)).toBe(ENOENT)
    const second = touch(mapping.address + BigInt(3 * PAGE), 'read')
    await nextFault(faults)
    faults.close()
    expect(await second).toBe(0)
  })

  test('can be handed to another owner', () => {
    const before = countFds()
    const faults = new UserFaultFd()
    const other = new UserFaultFd(faults.release())
    faults.close()
    const mapping = own(new Mapping({ size: PAGE }))
    other.register(mapping.address, PAGE)
    expect(other.zero(mapping.address, PAGE)).toBe(PAGE)
    other.close()
    expect(countFds()).toBe(before)
  })

  test('refuses memory that is not for it', () => {
    const { faults, base } = missing(1)
    for (const [address, size] of [
      [base + 1, PAGE],
      [base, 0],
      [base, 1],
      [2 ** 46, PAGE],
    ] as const) {
      expect(() => faults.register(address, size)).toThrow(SystemError)
    }
    const other = own(new UserFaultFd())
    expect(() => other.register(base, PAGE)).toThrow(expect.objectContaining({ code: 'EBUSY' }))
  })
})

test.skipIf(process.getuid?.() !== 0)(
  'says in one sentence what keeps it from a process without rights',
  () => {
    const program = `
    import { readFileSync } from 'node:fs'
    const isOpen = readFileSync('/proc/sys/vm/unprivileged_userfaultfd', 'latin1').trim() === '1'
    try { new UserFaultFd().close() } catch {}
    process.seteuid(65534)
    try { new UserFaultFd(); console.log(isOpen ? 'as it should' : 'allowed') }
    catch (error) { console.log(error.code, error.message) }`
    expect(runInChild(program)).toMatch(
      /^(as it should|EPERM userfaultfd: EPERM: vm.unprivileged_userfaultfd is 0, and \/dev\/userfaultfd cannot be opened \(E\w+\))\n$/,
    )
  },
)

describe.skipIf(skipWithoutCompiler)('in C', () => {
  const HEADERS = ['stddef.h', 'sys/ioctl.h', 'linux/userfaultfd.h']
  const { uffd_msg, uffdio_api, uffdio_copy, uffdio_range, uffdio_register, uffdio_zeropage } = abi
  const { pagefault, remove, ...message } = uffd_msg
  const flat = {
    uffdio_api,
    uffdio_copy,
    uffdio_range,
    uffdio_register,
    uffdio_zeropage,
    uffd_msg: {
      ...message,
      'arg.pagefault.flags': pagefault.flags,
      'arg.pagefault.address': pagefault.address,
      'arg.pagefault.feat.ptid': pagefault.ptid,
      'arg.remove.start': remove.start,
      'arg.remove.end': remove.end,
    },
  }
  for (const [name, { size, ...members }] of Object.entries(flat)) {
    test(`struct ${name} has the same layout`, () => {
      const expressions = Object.keys(members).map((member) => `offsetof(struct ${name}, ${member})`)
      const [theirSize, ...offsets] = evaluate(HEADERS, [`sizeof(struct ${name})`, ...expressions])
      expect([size, ...Object.values(members)].map(BigInt)).toEqual([theirSize, ...offsets])
    })
  }

  test('requests and flags have the same values', () => {
    const constants = Object.entries(abi).filter(([name]) => /^[A-Z_]+$/.test(name))
    const values = evaluate(
      HEADERS,
      constants.map(([name]) => `(unsigned)(${name})`),
    )
    expect(constants.length).toBeGreaterThan(12)
    expect(constants.map(([name, value]) => [name, BigInt(value as number)])).toEqual(
      constants.map(([name], index) => [name, values[index]]),
    )
  })
})
