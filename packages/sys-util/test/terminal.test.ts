import { constants, readSync, writeSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createPipe, ioctl, OwnedFd, openPath, RawTerminal } from '../src/index.ts'
import { own } from './resources.ts'

const TIOCSPTLCK = 0x4004_5431
const TIOCGPTPEER = 0x5441
const { O_RDWR, O_NOCTTY, O_NONBLOCK } = constants

/** A pseudo-terminal: the side of whoever types and watches, and the terminal. */
function openTerminal(): { person: OwnedFd; terminal: OwnedFd } {
  const person = own(new OwnedFd(openPath('/dev/ptmx', O_RDWR | O_NOCTTY | O_NONBLOCK)))
  ioctl(person.fd, TIOCSPTLCK, 'TIOCSPTLCK', new Int32Array(1))
  const peer = ioctl(person.fd, TIOCGPTPEER, 'TIOCGPTPEER', O_RDWR | O_NOCTTY | O_NONBLOCK)
  return { person, terminal: own(new OwnedFd(peer)) }
}

function read(fd: number): string | undefined {
  const buffer = Buffer.alloc(64)
  try {
    return buffer.toString('latin1', 0, readSync(fd, buffer))
  } catch (error) {
    expect(error).toMatchObject({ code: 'EAGAIN' })
    return undefined
  }
}

test('a raw terminal gives each byte as it is, without echo, until it is closed', () => {
  const { person, terminal } = openTerminal()
  writeSync(person.fd, 'a')
  expect([read(terminal.fd), read(person.fd)]).toEqual([undefined, 'a'])
  writeSync(person.fd, '\n')
  expect([read(terminal.fd), read(person.fd)]).toEqual(['a\n', '\r\n'])

  const raw = new RawTerminal(terminal.fd)
  writeSync(person.fd, 'b\x03\r')
  expect([read(terminal.fd), read(person.fd)]).toEqual(['b\x03\r', undefined])
  raw.close()
  raw.close()
  writeSync(person.fd, 'c')
  expect([read(terminal.fd), read(person.fd)]).toEqual([undefined, 'c'])
})

test('what is no terminal is ENOTTY', () => {
  const [reader, writer] = createPipe()
  own(reader)
  own(writer)
  expect(() => new RawTerminal(reader.fd)).toThrow(
    expect.objectContaining({ code: 'ENOTTY', syscall: 'tcgetattr' }),
  )
})
