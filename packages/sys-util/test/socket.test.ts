import { readSync, writeSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  createPipe,
  createSocketPair,
  EventFd,
  type OwnedFd,
  receiveWithFds,
  SCM_MAX_FD,
  sendWithFds,
} from '../src/index.ts'
import { countFds, fdFlags, O_CLOEXEC, O_NONBLOCK, own } from './resources.ts'

type SocketType = Parameters<typeof createSocketPair>[0]

function pair(type?: SocketType): [OwnedFd, OwnedFd] {
  const sockets = createSocketPair(type)
  for (const socket of sockets) own(socket)
  return sockets
}

const text = new TextEncoder()

test('sockets are close-on-exec and non-blocking', () => {
  for (const type of ['stream', 'dgram', 'seqpacket'] as const) {
    for (const { fd } of pair(type)) {
      expect(fdFlags(fd) & (O_CLOEXEC | O_NONBLOCK)).toBe(O_CLOEXEC | O_NONBLOCK)
    }
  }
})

describe('a message', () => {
  test('without descriptors brings its bytes', () => {
    const [here, there] = pair()
    // Not at the start of its buffer: the address is that of the view.
    const data = text.encode('..hello').subarray(2)
    expect(sendWithFds(here.fd, data, [])).toBe(5)
    const buffer = new Uint8Array(8)
    expect(receiveWithFds(there.fd, buffer.subarray(1), 4)).toEqual({ length: 5, fds: [] })
    expect([...buffer]).toEqual([0, ...data, 0, 0])
  })

  test('with a descriptor and no bytes passes where messages have bounds', () => {
    const [here, there] = pair('seqpacket')
    const event = own(new EventFd())
    expect(sendWithFds(here.fd, new Uint8Array(0), [event.fd])).toBe(0)
    const message = receiveWithFds(there.fd, new Uint8Array(0), 1)
    expect(message?.length).toBe(0)
    expect(message?.fds.length).toBe(1)
    for (const fd of message?.fds ?? []) own(fd)
  })

  test('with bytes and descriptors brings other descriptors of the same files', () => {
    const [here, there] = pair()
    const event = own(new EventFd())
    const [reader, writer] = createPipe()
    own(writer)
    expect(sendWithFds(here.fd, text.encode('x'), [event.fd, reader.fd])).toBe(1)
    reader.close()
    const message = receiveWithFds(there.fd, new Uint8Array(4), 2)
    const fds = message?.fds.map(own) ?? []
    expect(message?.length).toBe(1)
    expect(fds.map(({ fd }) => fdFlags(fd) & O_CLOEXEC)).toEqual([O_CLOEXEC, O_CLOEXEC])
    writeSync(fds[0]?.fd ?? -1, new Uint8Array([9, 0, 0, 0, 0, 0, 0, 0]))
    expect(event.read()).toBe(9)
    writeSync(writer.fd, 'abc')
    expect(readSync(fds[1]?.fd ?? -1, new Uint8Array(4))).toBe(3)
  })

  test('carries up to SCM_MAX_FD descriptors', () => {
    const [here, there] = pair()
    const event = own(new EventFd())
    const fds = new Array<number>(SCM_MAX_FD).fill(event.fd)
    sendWithFds(here.fd, text.encode('x'), fds)
    const message = receiveWithFds(there.fd, new Uint8Array(1), SCM_MAX_FD)
    expect(message?.fds.map(own).length).toBe(SCM_MAX_FD)
    expect(() => sendWithFds(here.fd, text.encode('x'), [...fds, event.fd])).toThrow(
      expect.objectContaining({ code: 'EINVAL', syscall: 'sendmsg' }),
    )
  })

  test.each([
    [1, 0],
    [2, 1],
    [3, 1],
    [4, 2],
    [8, 3],
  ])('with %d descriptors where %d are welcome is an error, and none stays open', (count, maxFds) => {
    const [here, there] = pair()
    const event = own(new EventFd())
    sendWithFds(here.fd, text.encode('x'), new Array<number>(count).fill(event.fd))
    const before = countFds()
    expect(() => receiveWithFds(there.fd, new Uint8Array(1), maxFds)).toThrow(
      expect.objectContaining({ code: 'EMSGSIZE', syscall: 'recvmsg' }),
    )
    expect(countFds()).toBe(before)
  })
})

test('nothing there yet is undefined, and the end of the stream a length of 0', () => {
  const [here, there] = pair()
  expect(receiveWithFds(there.fd, new Uint8Array(1), 1)).toBeUndefined()
  here.close()
  expect(receiveWithFds(there.fd, new Uint8Array(1), 1)).toEqual({ length: 0, fds: [] })
})

test('failures are thrown', () => {
  const [here, there] = pair()
  const data = text.encode('x')
  expect(() => sendWithFds(here.fd, data, [-1])).toThrow(expect.objectContaining({ code: 'EBADF' }))
  expect(() => receiveWithFds(there.fd, data, -1)).toThrow(expect.objectContaining({ code: 'EINVAL' }))
  expect(() => receiveWithFds(-1, data, 1)).toThrow(expect.objectContaining({ code: 'EBADF' }))
  there.close()
  expect(() => sendWithFds(here.fd, data, [])).toThrow(expect.objectContaining({ code: 'EPIPE' }))
})

test('descriptors without a byte over a stream are refused: the kernel would drop them', () => {
  const [here] = pair()
  const event = own(new EventFd())
  expect(() => sendWithFds(here.fd, new Uint8Array(0), [event.fd])).toThrow(
    expect.objectContaining({ code: 'EINVAL' }),
  )
})
