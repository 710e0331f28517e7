import { describe, expect, it } from 'vitest'
import { NetError, Switch, type SwitchOptions, type UserPort } from '../src/index.ts'
import { BROADCAST, MAC_A, MAC_B, MAC_C, plainFrame } from './packets.ts'
import { TestGuest, turns } from './support.ts'

const REFUSED = [{ macsPerPort: 0 }, { macsPerPort: 65537 }, { ageMs: 0 }, { ageMs: Number.NaN }]

function guestOn(lan: Switch, options: Parameters<Switch['port']>[0] = {}): TestGuest {
  return new TestGuest({ network: lan.port(options), queuePairs: options.queuePairs ?? 1 })
}

interface Listener {
  readonly port: UserPort
  readonly frames: Uint8Array[]
}

function listen(lan: Switch, mac?: Uint8Array): Listener {
  const frames: Uint8Array[] = []
  return { port: lan.connect({ receive: (frame) => void frames.push(frame), mac }), frames }
}

const codeOf = (run: () => unknown): unknown => {
  try {
    run()
    return undefined
  } catch (error) {
    return error instanceof NetError ? error.code : (error as { code?: unknown }).code
  }
}

describe('a switch', () => {
  it('carries frames between two guests, from memory to memory', () => {
    const lan = new Switch()
    const [one, two] = [guestOn(lan).offer(), guestOn(lan).offer()]
    const frame = plainFrame(MAC_B, MAC_A, 1514)
    one.send(frame)
    expect(two.received().map((received) => received.frame)).toEqual([frame])
    two.send(plainFrame(MAC_A, MAC_B, 60))
    expect(one.received().length).toBe(1)
    expect(one.received()).toEqual([])
  })

  it('sends to one port what is for an address that it knows, to all what is not, and to none back', () => {
    const lan = new Switch()
    const [a, b, c] = [listen(lan), listen(lan), listen(lan)]
    a.port.send(plainFrame(MAC_B, MAC_A))
    expect([a, b, c].map(({ frames }) => frames.length)).toEqual([0, 1, 1])
    b.port.send(plainFrame(MAC_A, MAC_B))
    a.port.send(plainFrame(MAC_B, MAC_A))
    expect([a, b, c].map(({ frames }) => frames.length)).toEqual([1, 2, 1])
    b.port.send(plainFrame(BROADCAST, MAC_B))
    b.port.send(plainFrame(Uint8Array.of(1, 0, 0x5e, 0, 0, 1), MAC_B))
    expect([a, b, c].map(({ frames }) => frames.length)).toEqual([3, 2, 3])
    // To where it came from.
    a.port.send(plainFrame(MAC_C, MAC_A))
    expect(c.port.counters.framesOut).toBe(4)
    expect(a.port.send(plainFrame(MAC_A, MAC_A))).toBe(false)
    expect(a.port.counters).toMatchObject({ framesIn: 4, refused: 1, framesOut: 3 })
  })

  it('refuses frames from groups, and passes on none that are for neighbours alone', () => {
    const lan = new Switch()
    const [a, b] = [listen(lan), listen(lan)]
    expect(a.port.send(plainFrame(MAC_B, BROADCAST))).toBe(false)
    for (const last of [0, 0xf]) {
      expect(a.port.send(plainFrame(Uint8Array.of(1, 0x80, 0xc2, 0, 0, last), MAC_A))).toBe(false)
    }
    expect(a.port.send(plainFrame(Uint8Array.of(1, 0x80, 0xc2, 0, 0, 0x10), MAC_A))).toBe(true)
    expect(b.frames.length).toBe(1)
    expect(a.port.counters.refused).toBe(3)
  })

  it('follows an address to another port, and forgets it in time', async () => {
    let now = 0
    const options: SwitchOptions = { ageMs: 1000, clock: { now: () => now } }
    const lan = new Switch(options)
    const [a, b, c] = [listen(lan), listen(lan), listen(lan)]
    b.port.send(plainFrame(BROADCAST, MAC_B))
    c.port.send(plainFrame(BROADCAST, MAC_B))
    const [atB, atC] = [b.frames.length, c.frames.length]
    a.port.send(plainFrame(MAC_B, MAC_A))
    expect([b.frames.length - atB, c.frames.length - atC]).toEqual([0, 1])
    now = 1000
    await turns(1)
    a.port.send(plainFrame(MAC_B, MAC_A))
    expect([b.frames.length - atB, c.frames.length - atC]).toEqual([0, 2])
    now = 1001
    await turns(1)
    a.port.send(plainFrame(MAC_B, MAC_A))
    expect([b.frames.length - atB, c.frames.length - atC]).toEqual([1, 3])
    expect(lan.macCount).toBe(1)
  })

  it('remembers so many addresses of a port, the latest, whatever that makes up', () => {
    const lan = new Switch({ macsPerPort: 4 })
    const [a, b, c] = [listen(lan), listen(lan), listen(lan)]
    b.port.send(plainFrame(BROADCAST, MAC_B))
    for (let i = 0; i < 100; i += 1) c.port.send(plainFrame(BROADCAST, Uint8Array.of(2, 0, 0, 0, 1, i)))
    expect(lan.macCount).toBe(5)
    const before = [b.frames.length, c.frames.length]
    a.port.send(plainFrame(MAC_B, MAC_A))
    a.port.send(plainFrame(Uint8Array.of(2, 0, 0, 0, 1, 99), MAC_A))
    expect([b.frames.length, c.frames.length]).toEqual([(before[0] ?? 0) + 1, (before[1] ?? 0) + 1])
  })

  it('keeps a port to its one address, and the address to the port', () => {
    const lan = new Switch()
    const a = listen(lan, MAC_A)
    const [b, c] = [listen(lan), listen(lan)]
    expect(a.port.send(plainFrame(BROADCAST, MAC_B))).toBe(false)
    expect(a.port.send(plainFrame(BROADCAST, MAC_A))).toBe(true)
    expect(b.port.send(plainFrame(BROADCAST, MAC_A))).toBe(false)
    c.port.send(plainFrame(MAC_A, MAC_C))
    expect([a.frames.length, b.frames.length]).toEqual([1, 1])
    expect(codeOf(() => lan.port({ mac: MAC_A }))).toBe('ERR_NET_OPTION')
    a.port.close()
    expect(codeOf(() => lan.port({ mac: MAC_A }))).toBe(undefined)
  })

  it.each(REFUSED)('refuses %o', (options) => {
    expect(codeOf(() => new Switch(options))).toBe('ERR_NET_OPTION')
  })

  it('refuses ports that cannot be', () => {
    const lan = new Switch()
    expect(codeOf(() => lan.port({ queueBytes: 1000 }))).toBe('ERR_NET_OPTION')
    expect(codeOf(() => lan.port({ queuePairs: 65 }))).toBe('ERR_NET_OPTION')
    expect(codeOf(() => lan.port({ mac: BROADCAST }))).toBe('ERR_DEVICE_OPTION')
    const network = lan.port()
    new TestGuest({ network })
    expect(codeOf(() => new TestGuest({ network }))).toBe('ERR_NET_OPTION')
  })
})

describe('a port of a guest', () => {
  it('keeps frames in order while the guest has no room, and drops what is too much', () => {
    const lan = new Switch()
    const port = lan.port({ queueBytes: 100_000 })
    const guest = new TestGuest({ network: port })
    const { port: me } = listen(lan)
    for (let i = 0; i < 200; i += 1) me.send(plainFrame(MAC_B, MAC_A, 1514, i))
    const kept = Math.floor(100_000 / 1526)
    expect(port.counters).toMatchObject({ framesOut: 0, dropped: 200 - kept })
    guest.offer(20)
    const frames = []
    for (let got = guest.received(); got.length > 0; got = guest.received()) frames.push(...got)
    expect(frames.map(({ frame }) => frame[20])).toEqual(
      Array.from({ length: kept }, (_, i) => plainFrame(MAC_B, MAC_A, 60, i)[20]),
    )
    expect(port.counters.framesOut).toBe(kept)
  })

  it('lets no short frame overtake a long one that waits', () => {
    const lan = new Switch()
    const guest = guestOn(lan).offer(8, 256)
    const { port: me } = listen(lan)
    for (const length of [600, 1500, 60]) me.send(plainFrame(MAC_B, MAC_A, length))
    expect(guest.received().map(({ frame }) => frame.length)).toEqual([600])
    expect(guest.received().map(({ frame }) => frame.length)).toEqual([1500, 60])
  })

  it('has one notification for what comes in one turn', () => {
    const lan = new Switch()
    const [one, two] = [guestOn(lan).offer(), guestOn(lan).offer()]
    let interrupts = 0
    two.transport.onInterrupt = () => {
      interrupts += 1
    }
    for (let i = 0; i < 10; i += 1) one.add(plainFrame(MAC_B, MAC_A))
    one.kick()
    expect(two.received().length).toBe(10)
    expect(interrupts).toBe(1)
  })

  it('drops what waits for a guest that goes, and what comes while it is not there', () => {
    const lan = new Switch()
    const port = lan.port()
    const guest = new TestGuest({ network: port })
    const { port: me } = listen(lan)
    guest.send(plainFrame(BROADCAST, MAC_B))
    me.send(plainFrame(MAC_B, MAC_A))
    guest.transport.reset()
    guest.transport.running = false
    expect(port.counters.dropped).toBe(1)
    expect(me.send(plainFrame(MAC_B, MAC_A))).toBe(false)
    expect(lan.macCount).toBe(1)
  })

  it('keeps the frames of a queue with a queue', () => {
    const lan = new Switch()
    const one = guestOn(lan, { queuePairs: 3 })
    const two = guestOn(lan, { queuePairs: 2 })
    expect([one.setQueuePairs(3), two.setQueuePairs(2)]).toEqual([0, 0])
    for (const pair of [0, 1]) two.offer(16, 2048, pair)
    for (const pair of [0, 1, 2]) one.send(plainFrame(MAC_B, MAC_A, 60, pair), {}, pair)
    expect(two.received(0).map(({ frame }) => frame[20])).toEqual([20, 22])
    expect(two.received(1).map(({ frame }) => frame[20])).toEqual([21])
  })

  it('takes the link down when it is closed', () => {
    const lan = new Switch()
    const port = lan.port()
    const guest = new TestGuest({ network: port }).offer()
    const { port: me } = listen(lan)
    port.close()
    port.close()
    expect(guest.net.linkUp).toBe(false)
    expect([lan.portCount, me.send(plainFrame(MAC_B, MAC_A))]).toEqual([1, false])
    guest.send(plainFrame(MAC_A, MAC_B))
    expect(guest.net.counters.txDropped).toBe(1)
  })
})

describe('a port of JavaScript', () => {
  it('answers from within receive, in a later turn', async () => {
    const lan = new Switch()
    const guest = guestOn(lan).offer()
    const me = lan.connect({ receive: (frame) => me.send(plainFrame(MAC_A, MAC_B, frame.length)) })
    guest.send(plainFrame(MAC_B, MAC_A, 100))
    expect(guest.received()).toEqual([])
    await turns()
    expect(guest.received().map(({ frame }) => frame.length)).toEqual([100])
  })

  it('leaves time for others where two answer each other for ever', async () => {
    const lan = new Switch()
    let count = 0
    const one = lan.connect({ receive: () => one.send(plainFrame(MAC_B, MAC_A)) })
    const two = lan.connect({
      receive: () => {
        count += 1
        if (count < 50) two.send(plainFrame(MAC_A, MAC_B))
      },
    })
    one.send(plainFrame(MAC_B, MAC_A))
    expect(count).toBe(1)
    await turns(200)
    expect(count).toBe(50)
  })

  it('drops frames while too many calls have not settled, and tells of those that fail', async () => {
    const lan = new Switch()
    const errors: unknown[] = []
    const settled: (() => void)[] = []
    const port = lan.connect({
      receive: (frame) => {
        if (frame.length === 61) throw new Error('at once')
        if (frame.length === 62) return Promise.reject(new Error('later'))
        return new Promise<void>((resolve) => settled.push(resolve))
      },
      failed: (error) => errors.push((error as Error).message),
    })
    const { port: me } = listen(lan)
    for (const length of [61, 62]) me.send(plainFrame(MAC_B, MAC_A, length))
    await turns()
    expect(errors).toEqual(['at once', 'later'])
    for (let i = 0; i < 70; i += 1) me.send(plainFrame(MAC_B, MAC_A))
    expect([settled.length, port.counters.dropped]).toEqual([64, 6])
    settled[0]?.()
    await turns()
    me.send(plainFrame(MAC_B, MAC_A))
    expect(settled.length).toBe(65)
  })

  it('refuses what is no frame, and sends nothing when it is closed', () => {
    const lan = new Switch()
    const [a, b] = [listen(lan), listen(lan)]
    for (const length of [13, 65558]) {
      expect(codeOf(() => a.port.send(new Uint8Array(length)))).toBe('ERR_NET_OPTION')
    }
    a.port.close()
    expect(a.port.send(plainFrame(BROADCAST, MAC_A))).toBe(false)
    b.port.send(plainFrame(BROADCAST, MAC_B))
    expect([a.frames.length, b.frames.length, lan.portCount]).toEqual([0, 0, 1])
  })
})

describe('a guest that floods', () => {
  it('is held back for the rest of the turn, and loses nothing of its own', async () => {
    const lan = new Switch()
    const guest = new TestGuest({ network: lan.port(), queueSize: 256 })
    const listeners = Array.from({ length: 60 }, () => listen(lan))
    const frame = plainFrame(BROADCAST, MAC_A, 20_000)
    // 1.2 MB for each; 16 MiB are enough for a turn.
    for (let i = 0; i < 30; i += 1) guest.add(frame)
    guest.kick()
    expect(listeners[0]?.frames.length).toBe(14)
    await turns()
    expect(listeners.map(({ frames }) => frames.length)).toEqual(new Array(60).fill(30))
    expect(guest.net.counters).toMatchObject({ txFrames: 30, txDropped: 0 })
  })
})
