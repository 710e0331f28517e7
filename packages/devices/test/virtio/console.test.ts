import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import * as spec from '../../src/virtio/console/spec.ts'
import type { ConsoleEvents, ConsolePort, ConsolePortOptions } from '../../src/virtio/index.ts'
import { Console, MmioTransport, VIRTIO_CONFIG_S_FAILED, VIRTIO_ID_CONSOLE } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { codeThrownBy, textOf } from '../support.ts'
import { ConsoleGuest, INPUT_BYTES, TWO_PORTS } from './console-support.ts'
import { DRIVER_OK } from './support.ts'

const {
  VIRTIO_CONSOLE_CONSOLE_PORT: CONSOLE_PORT,
  VIRTIO_CONSOLE_PORT_ADD: PORT_ADD,
  VIRTIO_CONSOLE_PORT_NAME: PORT_NAME,
  VIRTIO_CONSOLE_PORT_OPEN: PORT_OPEN,
  VIRTIO_CONSOLE_RESIZE: RESIZE,
} = spec
const SIZE_BIT = 1 << spec.VIRTIO_CONSOLE_F_SIZE
const BYTES = 'x'.repeat(100)

/** Messages as `port event value`. */
const brief = (guest: ConsoleGuest): string[] =>
  guest.messages().map(({ id, event, value }) => `${id} ${event} ${value}`)

/** A guest past the handshake, both of whose ports are open on both sides. */
function connected(ports: readonly ConsolePortOptions[] = TWO_PORTS.ports ?? [], events?: ConsoleEvents) {
  const guest = new ConsoleGuest({ ports, queueSize: 8, events })
  guest.handshake()
  const streams = guest.device.ports.map((port) => {
    guest.openPort(port.id)
    return port.open()
  })
  guest.messages()
  const [first, second] = streams as [Duplex, Duplex]
  return { guest, first, second }
}

describe('virtio-console', () => {
  it('has two queues a port and two for control, and its size and ports in its configuration', () => {
    const guest = new ConsoleGuest({ ports: [{ console: true, columns: 132, rows: 43 }, { name: 'a' }] })
    expect(guest.read(reg.VIRTIO_MMIO_DEVICE_ID)).toBe(VIRTIO_ID_CONSOLE)
    expect(guest.device.queueSizes.length).toBe(6)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_COLS_OFFSET, 2)).toBe(132)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_ROWS_OFFSET, 2)).toBe(43)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_MAX_NR_PORTS_OFFSET)).toBe(2)
  })

  it('introduces its ports, each when the driver is ready for it', () => {
    const guest = new ConsoleGuest({
      ports: [{ console: true, columns: 80, rows: 25 }, { name: 'agent' }],
      queueSize: 8,
    })
    guest.port(1).open()
    const all = guest.handshake()
    expect(all.map(({ id, event, value }) => [id, event, value])).toEqual([
      [0, PORT_ADD, 1],
      [1, PORT_ADD, 1],
      [0, CONSOLE_PORT, 1],
      [0, RESIZE, 1],
      [1, PORT_NAME, 1],
      [1, PORT_OPEN, 1],
    ])
    const rest = (event: number) => all.find((message) => message.event === event)?.rest
    expect(Buffer.from(rest(PORT_NAME) ?? []).toString()).toBe('agent')
    // le16 columns, le16 rows.
    expect([...(rest(RESIZE) ?? [])]).toEqual([80, 0, 25, 0])
    expect(guest.faults).toEqual([])
  })

  it.each([{ packed: false }, { packed: true }])(
    'carries bytes both ways (packed $packed)',
    async ({ packed }) => {
      const guest = new ConsoleGuest(TWO_PORTS, { features: { packed } })
      guest.handshake()
      const stream = guest.port(1).open()
      expect(brief(guest)).toEqual([`1 ${PORT_OPEN} 1`])
      guest.openPort(1)
      expect(guest.output(1, 'from the guest')).toBe(true)
      expect(textOf(stream)).toBe('from the guest')
      stream.write('from ')
      stream.write('the host')
      await turn()
      expect(guest.input(1)).toBe('from the host')
      expect(guest.mock.guardsIntact()).toBe(true)
    },
  )

  it('keeps the ports apart', async () => {
    const { guest, first, second } = connected()
    guest.output(0, 'zero')
    guest.output(1, 'one')
    first.write('to zero')
    second.write('to one')
    expect([textOf(first), textOf(second)]).toEqual(['zero', 'one'])
    expect([guest.input(0), guest.input(1)]).toEqual(['to zero', 'to one'])
  })

  it('is one open port to a driver without multiport', async () => {
    const opened: ConsolePort[] = []
    const guest = new ConsoleGuest({ ...TWO_PORTS, events: { guestOpened: (port) => opened.push(port) } })
    const stream = guest.port(0).open()
    stream.write('early')
    guest.begin(SIZE_BIT)
    expect(opened).toEqual([guest.port(0)])
    guest.giveInput(0)
    expect(guest.input(0)).toBe('early')
    expect(guest.output(0, 'hello')).toBe(true)
    expect(textOf(stream)).toBe('hello')
    expect(guest.faults).toEqual([])
  })

  it('gives long input in as many buffers as it takes, and waits for more', async () => {
    const { guest, second } = connected()
    const text = Array.from({ length: 100 }, (_, i) => `line ${i}\n`).join('')
    let isDone = false
    second.write(text, () => {
      isDone = true
    })
    const whole = guest.input(1)
    expect(whole).toBe(text.slice(0, 4 * INPUT_BYTES))
    await turn()
    expect(isDone).toBe(false)
    guest.giveInput(1)
    expect(guest.input(1, true)).toBe(text.slice(4 * INPUT_BYTES))
    await turn()
    expect(isDone).toBe(true)
  })

  it('packs writes that have waited into one buffer', () => {
    const { guest, second } = connected()
    second.write('x'.repeat(4 * INPUT_BYTES))
    guest.input(1)
    for (let i = 0; i < 10; i += 1) second.write('ab')
    guest.giveInput(1)
    expect(
      guest
        .driverAt(spec.receiveQueueOf(1))
        .reapAll()
        .map(({ length }) => length),
    ).toEqual([20])
  })

  it('never gives the guest an empty buffer, which Linux takes for the end', async () => {
    const { guest, second } = connected()
    second.write('')
    second.end('text')
    await once(second, 'finish')
    expect(
      guest
        .driverAt(spec.receiveQueueOf(1))
        .reapAll()
        .map(({ length }) => length),
    ).toEqual([4])
  })

  it('holds input until the guest opens the port, and what it has not read when it closes', async () => {
    const guest = new ConsoleGuest()
    guest.handshake()
    const stream = guest.port(1).open()
    stream.write('waits')
    await turn()
    expect(guest.input(1)).toBe('')
    expect(stream.writableLength).toBe(5)
    guest.openPort(1)
    expect(guest.input(1)).toBe('waits')
    guest.openPort(1, false)
    stream.write('for the next')
    guest.giveInput(1)
    expect(guest.input(1)).toBe('')
    guest.openPort(1)
    expect(guest.input(1)).toBe('for the next')
  })

  it('says when the guest opens, closes and resets', () => {
    const said: string[] = []
    const guest = new ConsoleGuest({
      ...TWO_PORTS,
      events: {
        guestOpened: ({ id }) => said.push(`${id} opened`),
        guestClosed: ({ id }) => said.push(`${id} closed`),
      },
    })
    guest.handshake()
    guest.openPort(1)
    guest.openPort(1)
    expect(guest.port(1).guestOpen).toBe(true)
    guest.openPort(1, false)
    guest.openPort(1)
    guest.openPort(0)
    guest.status = 0
    expect(said).toEqual(['1 opened', '1 closed', '1 opened', '0 opened', '0 closed', '1 closed'])
  })

  it('delivers what the guest wrote before it says that the guest has closed', () => {
    let before = ''
    const guest = new ConsoleGuest({
      ...TWO_PORTS,
      events: {
        guestClosed: () => {
          before = textOf(stream)
        },
      },
    })
    guest.handshake()
    const stream = guest.port(1).open()
    guest.openPort(1)
    const queue = guest.driverAt(spec.receiveQueueOf(1) + 1)
    guest.mock.write(0x9_8000, Buffer.from('last words'))
    // Not notified yet: doorbells are heard in any order.
    queue.send([{ address: 0x9_8000, length: 10 }])
    guest.openPort(1, false)
    expect(before).toBe('last words')
  })

  it('tells the guest of a host that closes, and of the next', () => {
    const { guest, second } = connected()
    expect(guest.port(1).hostOpen).toBe(true)
    second.destroy()
    expect(guest.port(1).hostOpen).toBe(false)
    expect(brief(guest)).toEqual([`1 ${PORT_OPEN} 0`])
    expect(guest.output(1, 'to nobody')).toBe(true)
    const next = guest.port(1).open()
    expect(brief(guest)).toEqual([`1 ${PORT_OPEN} 1`])
    expect(textOf(next)).toBe('')
    // Both are told where there was no buffer for the first.
    guest.begin()
    guest.control(1, spec.VIRTIO_CONSOLE_PORT_READY, 1)
    next.destroy()
    guest.port(1).open()
    guest.giveControl()
    expect(brief(guest)).toEqual([`1 ${PORT_NAME} 1`, `1 ${PORT_OPEN} 0`, `1 ${PORT_OPEN} 1`])
  })

  it('goes on with output when the host has ended the input', async () => {
    const { guest, second } = connected()
    second.end()
    await once(second, 'finish')
    guest.output(1, 'still here')
    expect(textOf(second)).toBe('still here')
    expect(guest.messages()).toEqual([])
  })

  it('gives its ports by number and by name', () => {
    const { device } = new ConsoleGuest()
    expect([device.port(0), device.port('agent')]).toEqual([...device.ports])
    for (const which of [2, -1, 'agents', '0']) {
      expect(codeThrownBy(() => device.port(which))).toBe('ERR_DEVICE_OPTION')
    }
  })

  it('has one stream at a time', () => {
    const { guest, second } = connected()
    expect(codeThrownBy(() => guest.port(1).open())).toBe('ERR_DEVICE_BUSY')
    second.destroy()
    guest.port(1).open()
  })

  it('tells a driver that begins again everything once more', () => {
    const { guest } = connected()
    const said = guest.handshake().map(({ id, event }) => [id, event])
    expect(said).toEqual([
      [0, PORT_ADD],
      [1, PORT_ADD],
      [0, CONSOLE_PORT],
      [0, PORT_OPEN],
      [1, PORT_NAME],
      [1, PORT_OPEN],
    ])
  })

  it('resizes by a message where there are ports, and by the configuration where there is one', () => {
    const { guest } = connected()
    const interrupts = guest.interrupt.count
    guest.port(0).resize(100, 50)
    const [message] = guest.messages()
    expect([message?.event, ...(message?.rest ?? [])]).toEqual([RESIZE, 100, 0, 50, 0])
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_COLS_OFFSET, 2)).toBe(100)
    expect(guest.interrupt.count).toBeGreaterThan(interrupts)
    guest.port(0).resize(100, 50)
    expect(guest.messages()).toEqual([])
    // A port that is no console has no size to tell.
    guest.port(1).resize(1, 1)
    expect(guest.messages()).toEqual([])
    expect(codeThrownBy(() => guest.port(0).resize(-1, 3))).toBe('ERR_DEVICE_OPTION')
    expect(codeThrownBy(() => guest.port(0).resize(80, 65536))).toBe('ERR_DEVICE_OPTION')

    guest.begin(SIZE_BIT)
    guest.handleInterrupt()
    guest.port(0).resize(90, 30)
    expect(guest.handleInterrupt() & reg.VIRTIO_MMIO_INT_CONFIG).not.toBe(0)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_ROWS_OFFSET, 2)).toBe(30)
  })

  it('tells the latest size alone', () => {
    const guest = new ConsoleGuest()
    guest.handshake()
    guest.begin()
    guest.control(0, spec.VIRTIO_CONSOLE_PORT_READY, 1)
    for (let columns = 1; columns <= 100; columns += 1) guest.port(0).resize(columns, 1)
    guest.giveControl()
    const sizes = guest.messages().filter(({ event }) => event === RESIZE)
    expect(sizes.map(({ rest }) => rest[0])).toEqual([100])
  })

  it('writes a character by the configuration, whatever the state of the driver', () => {
    const guest = new ConsoleGuest()
    const stream = guest.port(0).open()
    const emergency = (char: string, size = 4) =>
      guest.write(reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_EMERG_WR_OFFSET, char.charCodeAt(0), size)
    emergency('a')
    guest.begin()
    emergency('b', 1)
    guest.status = DRIVER_OK | VIRTIO_CONFIG_S_FAILED
    emergency('c')
    expect(textOf(stream)).toBe('abc')
    // No other field can be written.
    guest.write(reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_MAX_NR_PORTS_OFFSET, 9)
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_MAX_NR_PORTS_OFFSET)).toBe(2)
  })

  it.each([
    { what: 'no ports', ports: [] },
    { what: 'too many ports', ports: Array.from({ length: 32 }, () => ({})) },
    { what: 'a name twice', ports: [{ name: 'a' }, { name: 'a' }] },
    { what: 'a name with a slash', ports: [{ name: 'a/b' }] },
    { what: 'a name with a line break', ports: [{ name: 'a\n' }] },
    { what: 'a name too long', ports: [{ name: 'ü'.repeat(33) }] },
    { what: 'a size too large', ports: [{ columns: 65536 }] },
    { what: 'half a row', ports: [{ rows: 0.5 }] },
    { what: 'no buffer', ports: [{ bufferBytes: 0 }] },
    { what: 'another overflow', ports: [{ overflow: 'panic' as 'drop' }] },
  ])('refuses $what', ({ ports }) => {
    expect(codeThrownBy(() => new Console({ ports }))).toBe('ERR_DEVICE_OPTION')
  })

  it('refuses a queue size that is none, and a second transport', () => {
    expect(codeThrownBy(() => new Console({ queueSize: 3 }))).toBe('ERR_DEVICE_OPTION')
    const { device } = new ConsoleGuest()
    expect(
      codeThrownBy(
        () => new MmioTransport({ device, memory: new ConsoleGuest().mock, interrupt: { trigger() {} } }),
      ),
    ).toBe('ERR_DEVICE_OPTION')
  })
})

describe('a host whose listeners throw', () => {
  it('is told so by an uncaught exception, and the guest goes on', async () => {
    const others = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    const thrown: unknown[] = []
    process.on('uncaughtException', (error) => thrown.push(error))
    try {
      const { guest, second } = connected()
      const error = new Error('a bug of the host')
      second.on('data', () => {
        throw error
      })
      await turn()
      expect(guest.output(1, 'text')).toBe(true)
      await turn()
      expect(thrown).toEqual([error])
    } finally {
      process.removeAllListeners('uncaughtException')
      for (const listener of others) process.on('uncaughtException', listener)
    }
  })
})

describe('a host that does not read', () => {
  const BUFFER = 64

  it('leaves output in the queue of a port for programs, and of that alone', async () => {
    const { guest, first, second } = connected([{ console: true }, { name: 'agent', bufferBytes: BUFFER }])
    expect(guest.output(1, BYTES)).toBe(false)
    expect(second.readableLength).toBe(BUFFER)
    for (let i = 0; i < 3; i += 1) guest.notify(spec.receiveQueueOf(1) + 1)
    expect(second.readableLength).toBe(BUFFER)
    // Others go on.
    expect(guest.output(0, 'prompt')).toBe(true)
    expect(textOf(first)).toBe('prompt')
    // When it reads again, it gets all of it, once.
    let got = ''
    second.on('data', (chunk: Buffer) => {
      got += chunk.toString()
    })
    await turn()
    await turn()
    expect(got).toBe(BYTES)
    expect(guest.reapOutput(1)).toBe(1)
  })

  it('loses output of a console, which does not wait, and counts it', () => {
    const lost: number[] = []
    const ports = [{ console: true, bufferBytes: BUFFER }, { name: 'agent' }]
    const { guest, first } = connected(ports, { outputLost: (_, bytes) => lost.push(bytes) })
    expect(guest.output(0, BYTES)).toBe(true)
    expect(guest.output(0, BYTES)).toBe(true)
    expect(lost).toEqual([BYTES.length - BUFFER, BYTES.length])
    expect(first.readableLength).toBe(BUFFER)
  })

  it('frees the guest when it goes', () => {
    const { guest, second } = connected([{ console: true }, { name: 'agent', bufferBytes: BUFFER }])
    guest.output(1, BYTES)
    second.destroy()
    expect(guest.reapOutput(1)).toBe(1)
  })

  it('does not have a guest keep its thread with one long buffer', async () => {
    const { guest, second } = connected()
    let got = 0
    second.on('data', (chunk: Buffer) => {
      got += chunk.length
    })
    await turn()
    const queue = spec.receiveQueueOf(1) + 1
    const part = { address: 0, length: 0xf_0000 }
    guest.driverAt(queue).send([part, part, part, part])
    guest.notify(queue)
    expect(got).toBe(2 ** 20)
    expect(guest.turns()).toBe(3)
    expect(got).toBe(4 * part.length)
    expect(guest.reapOutput(1)).toBe(1)
  })

  it('starts a queue that was reset from its beginning', () => {
    const { guest, second } = connected([{ console: true }, { name: 'agent', bufferBytes: BUFFER }])
    guest.output(1, BYTES)
    textOf(second)
    const queue = spec.receiveQueueOf(1) + 1
    guest.select(queue)
    guest.write(reg.VIRTIO_MMIO_QUEUE_RESET, 1)
    guest.drivers[queue] = guest.driverOf(queue)
    guest.enable(queue, guest.driverAt(queue))
    guest.output(1, 'anew')
    expect(textOf(second)).toBe('anew')
  })
})

describe('a state of virtio-console', () => {
  const again = (guest: ConsoleGuest, state: ReturnType<MmioTransport['state']>, ports = TWO_PORTS) =>
    new ConsoleGuest(ports, { memory: guest.mock }, (options) => MmioTransport.fromState(state, options))

  it('goes on in the middle of a buffer, with who is open', async () => {
    const bufferBytes = 10
    const ports = { ...TWO_PORTS, ports: [{ console: true }, { name: 'agent', bufferBytes }] }
    const { guest, second } = connected(ports.ports)
    guest.port(0).resize(77, 33)
    guest.messages()
    guest.output(1, 'before the snapshot')
    expect(textOf(second)).toBe('before the')
    const state = JSON.parse(JSON.stringify(guest.transport.state()))
    const copy = again(guest, state, ports)
    expect([copy.port(0).guestOpen, copy.port(1).guestOpen]).toEqual([true, true])
    expect([copy.port(0).columns, copy.port(0).rows]).toEqual([77, 33])
    expect(copy.read(reg.VIRTIO_MMIO_CONFIG + spec.CONFIG_COLS_OFFSET, 2)).toBe(77)
    const stream = copy.port(1).open()
    copy.transport.resume()
    expect(textOf(stream)).toBe(' snapshot')
    copy.drivers = guest.drivers
    // The connection of before is gone, and there is another.
    expect(guest.messages().map(({ id, event, value }) => [id, event, value])).toEqual([
      [0, PORT_OPEN, 0],
      [1, PORT_OPEN, 0],
      [1, PORT_OPEN, 1],
    ])
  })

  it.each([
    ['another version', { version: 2 }],
    ['no ports', { ports: undefined }],
    ['fewer ports', { ports: [] }],
    ['ports that are none', { ports: [null, 3] }],
  ])('with %s is refused', (_, change) => {
    const { device } = new ConsoleGuest()
    expect(codeThrownBy(() => device.restore({ ...device.state(), ...change }))).toBe('ERR_DEVICE_STATE')
    expect(codeThrownBy(() => device.restore(null))).toBe('ERR_DEVICE_STATE')
  })

  it.each([
    { name: 'other' },
    { console: true },
    { columns: 65536 },
    { rows: -1 },
    { guestOpen: 1 },
    { ready: undefined },
    { toldOpen: 'yes' },
    { pending: 64 },
    { outputOffset: -1 },
    { outputOffset: Number.NaN },
  ])('of a port with %o is refused', (change) => {
    const { device } = new ConsoleGuest()
    const { ports } = device.state()
    const forged = { version: 1, ports: [ports[0], { ...ports[1], ...change }] }
    expect(codeThrownBy(() => device.restore(forged))).toBe('ERR_DEVICE_STATE')
  })
})
