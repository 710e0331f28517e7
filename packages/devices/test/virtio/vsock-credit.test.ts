import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Credit } from '../../src/virtio/vsock/credit.ts'
import { RawGuest, settle } from './vsock-support.ts'

const BUFFER = 65_536
const WRAP = 2 ** 32
const OP_RW = 5
const OP_CREDIT_UPDATE = 6
const OP_CREDIT_REQUEST = 7
const PORT = 1024

/** Bytes that a side sends, and that the other takes; large ones make the counters wrap. */
const step = fc.record({
  send: fc.oneof(fc.nat(BUFFER), fc.constantFrom(0, 1, BUFFER, BUFFER + 1)),
  take: fc.nat(BUFFER),
})

describe('credit', () => {
  it('is what the guest has room for, to the byte, for ever', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: WRAP - 1 }),
        fc.array(step, { maxLength: 100 }),
        (past, steps) => {
          const credit = new Credit(BUFFER)
          // As after terabytes.
          for (let left = past; left > 0; left -= BUFFER) credit.send(Math.min(left, BUFFER))
          let sent = past
          let forwarded = past
          for (const { send, take } of steps) {
            credit.update(BUFFER, forwarded % WRAP)
            expect(credit.sendable).toBe(BUFFER - (sent - forwarded))
            const length = Math.min(send, credit.sendable)
            credit.send(length)
            sent += length
            expect(sent - forwarded).toBeLessThanOrEqual(BUFFER)
            forwarded += Math.min(take, sent - forwarded)
          }
        },
      ),
      { numRuns: 30 },
    )
  })

  it('is 0 where the numbers of the guest make no sense, and never more than its buffer', () => {
    fc.assert(
      fc.property(fc.nat(WRAP - 1), fc.nat(WRAP - 1), fc.nat(BUFFER), (buffer, forwarded, sent) => {
        const credit = new Credit(BUFFER)
        credit.send(sent)
        credit.update(buffer, forwarded)
        expect(credit.sendable).toBeGreaterThanOrEqual(0)
        expect(credit.sendable).toBeLessThanOrEqual(buffer)
        if (forwarded > sent)
          expect(credit.sendable).toBeLessThanOrEqual(Math.max(0, buffer - (WRAP - forwarded)))
      }),
    )
  })

  it('is given as there is room: what the guest may send by it fits, and it is never left without', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const credit = new Credit(BUFFER)
        let received = 0
        let forwarded = 0
        let told = 0
        for (const { send, take } of steps) {
          const room = BUFFER - (received - told)
          // A guest that sends more than it was told of may be lucky; one that does not is never refused.
          const length = Math.min(send, room)
          expect(credit.receive(length)).toBe(true)
          received += length
          expect(credit.held).toBe(received - forwarded)
          expect(credit.receive(BUFFER - credit.held + 1)).toBe(false)
          const taken = Math.min(take, received - forwarded)
          credit.forward(taken)
          forwarded += taken
          if (credit.updateDue) told = credit.advertise()
          // Whoever reads everything leaves half of the buffer to the guest, or more.
          if (received === forwarded) expect(BUFFER - (received - told)).toBeGreaterThan(BUFFER / 2)
        }
      }),
    )
  })
})

describe('the device', () => {
  it('sends no byte without credit, whatever it is written and given', async () => {
    const action = fc.record({
      write: fc.nat(3000),
      forward: fc.nat(3000),
      bufAlloc: fc.constantFrom(0, 1, 100, 2000),
      asks: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 20 }), async (actions) => {
        const raw = new RawGuest({}, { rxBufferSize: 500 })
        const stream = await raw.dial(5, PORT, 0)
        let received = 0
        let forwarded = 0
        let allowed = 0
        let written = 0
        const take = async () => {
          await settle(8)
          for (const packet of raw.packets.splice(0)) {
            if (packet.op === OP_RW) received += packet.len
            expect(packet.bufAlloc).toBe(131_072)
          }
          expect(received).toBeLessThanOrEqual(allowed)
        }
        await take()
        for (const { write, forward, bufAlloc, asks } of actions) {
          stream.write(Buffer.alloc(write))
          written += write
          forwarded += Math.min(forward, received - forwarded)
          allowed = Math.max(allowed, forwarded + bufAlloc)
          const op = asks ? OP_CREDIT_REQUEST : OP_CREDIT_UPDATE
          raw.guest.send({ op, srcPort: 5, dstPort: PORT, bufAlloc, fwdCnt: forwarded })
          await take()
        }
        // And all of it with credit.
        allowed = Number.POSITIVE_INFINITY
        raw.guest.send({
          op: OP_CREDIT_UPDATE,
          srcPort: 5,
          dstPort: PORT,
          bufAlloc: 1_000_000,
          fwdCnt: received,
        })
        await settle(50)
        await take()
        expect(received).toBe(written)
      }),
      { numRuns: 30 },
    )
  })

  it('asks for credit once when it has none, and answers who asks', async () => {
    const raw = new RawGuest()
    const stream = await raw.dial(5, PORT, 10)
    await raw.take()
    stream.write(Buffer.alloc(30))
    expect(await raw.operations()).toEqual([OP_RW, OP_CREDIT_REQUEST])
    raw.guest.send({ op: OP_CREDIT_UPDATE, srcPort: 5, dstPort: PORT, bufAlloc: 10, fwdCnt: 0 })
    expect(await raw.operations()).toEqual([])
    raw.guest.send({ op: OP_CREDIT_UPDATE, srcPort: 5, dstPort: PORT, bufAlloc: 10, fwdCnt: 10 })
    expect(await raw.operations()).toEqual([OP_RW, OP_CREDIT_REQUEST])
    raw.guest.send({ op: OP_CREDIT_REQUEST, srcPort: 5, dstPort: PORT, bufAlloc: 100, fwdCnt: 20 })
    expect(await raw.operations()).toEqual([OP_CREDIT_UPDATE, OP_RW])
    stream.destroy()
  })

  it('tells of room when half of it has become free', async () => {
    const raw = new RawGuest({ bufferSize: 8192 })
    const stream = await raw.dial(5)
    await raw.take()
    stream.resume()
    for (let i = 0; i < 3; i += 1) {
      raw.guest.send({ op: OP_RW, srcPort: 5, dstPort: PORT, payload: new Uint8Array(4000) })
      const seen = (await raw.take()).map(({ op }) => op)
      expect(seen).toEqual(i === 1 ? [OP_CREDIT_UPDATE] : [])
    }
  })
})
