import type { Vm } from '@vmm/kvm-ioctls'
import { EventFd } from '@vmm/sys-util'
import { afterEach, expect, test } from 'vitest'
import { InterruptLines } from '../src/interrupt-lines.ts'

const eventFds: EventFd[] = []
const registered: [fd: number, gsi: number][] = []

function makeLines(): InterruptLines {
  return new InterruptLines({
    vm: { registerIrqfd: (fd: number, gsi: number) => registered.push([fd, gsi]) } as unknown as Vm,
    own: (owner) => {
      if (owner instanceof EventFd) eventFds.push(owner)
      return owner
    },
  })
}

afterEach(() => {
  for (const eventFd of eventFds.splice(0)) eventFd.close()
  registered.length = 0
})

test('edges that come before there are vCPUs are made when there are, once for each line', () => {
  const lines = makeLines()
  const [serial, clock] = [lines.line(4), lines.line(8)]
  expect(registered).toEqual([
    [eventFds[0]?.fd, 4],
    [eventFds[1]?.fd, 8],
  ])
  serial.trigger()
  serial.trigger()
  expect(eventFds.map((eventFd) => eventFd.read())).toEqual([0, 0])
  lines.release()
  expect(eventFds.map((eventFd) => eventFd.read())).toEqual([1, 0])
  clock.trigger()
  expect(eventFds.map((eventFd) => eventFd.read())).toEqual([0, 1])
  // A second time there is nothing left.
  lines.release()
  expect(eventFds.map((eventFd) => eventFd.read())).toEqual([0, 0])
})
