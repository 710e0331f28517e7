/** A driver of virtio-fs that says anything. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fuseArguments } from '../../src/testing/index.ts'
import * as spec from '../../src/virtio/fs/spec.ts'
import { UserTree } from '../../src/virtio/index.ts'
import {
  createGuest,
  directoryItem,
  type FsGuest,
  fileItem,
  type Item,
  SlowTree,
  TestFileSystem,
} from './fs-support.ts'

const MAX_NODES = 3
const MAX_HANDLES = 3
const OPCODES = Object.entries(spec).flatMap(([name, value]) =>
  /^FUSE_[A-Z0-9_]+$/.test(name) &&
  typeof value === 'number' &&
  value < 64 &&
  !/_SIZE|_ID|_VERSION|LEAST|OFFSET/.test(name)
    ? [value]
    : [],
)

const small = fc.bigInt({ min: 0n, max: 8n })
const number64 = fc.oneof({ weight: 6, arbitrary: small }, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }))
const number32 = fc.oneof({ weight: 4, arbitrary: fc.nat(8) }, fc.nat(0xffff_ffff))
const name = fc.constantFrom('file', 'dir', 'inner', 'new', 'other', '..', '', 'a/b')
const part = fc.oneof(
  { weight: 4, arbitrary: number64.map((value) => fuseArguments(value)) },
  { weight: 4, arbitrary: number32.map((value) => fuseArguments(value)) },
  { weight: 3, arbitrary: name.map((text) => fuseArguments(text)) },
  fc.uint8Array({ maxLength: 40 }),
)
const request = fc.record({
  opcode: fc.oneof({ weight: 12, arbitrary: fc.constantFrom(...OPCODES) }, fc.nat(0xffff_ffff)),
  node: number64,
  body: fc.array(part, { maxLength: 6 }).map((parts) => Buffer.concat(parts)),
  room: fc.oneof({ weight: 6, arbitrary: fc.constant(600) }, fc.nat(300)),
  /** What the header says too much or too little. */
  off: fc.oneof({ weight: 12, arbitrary: fc.constant(0) }, fc.integer({ min: -60, max: 60 })),
  cut: fc.oneof({ weight: 12, arbitrary: fc.constant(0) }, fc.nat(60)),
  queue: fc.oneof({ weight: 8, arbitrary: fc.constant(1) }, fc.constant(0)),
})
/** What a driver does as a rule: it makes the others mean something. */
const sensible = fc.oneof(
  fc.record({ do: fc.constant('lookup' as const), node: fc.nat(4), name }),
  fc.record({ do: fc.constant('open' as const), node: fc.nat(5), directory: fc.boolean() }),
  fc.record({ do: fc.constant('mount' as const) }),
  fc.record({ do: fc.constant('host' as const) }),
)

type Sensible = typeof sensible extends fc.Arbitrary<infer T> ? T : never

/** Sends something without waiting for an answer that may never come. */
function act({ client }: FsGuest, one: Sensible, host: () => void): void {
  if (one.do === 'host') host()
  else if (one.do === 'mount') void client.init()
  else if (one.do === 'lookup') void client.send(spec.FUSE_LOOKUP, one.node, fuseArguments(one.name))
  else void client.send(one.directory ? spec.FUSE_OPENDIR : spec.FUSE_OPEN, one.node, fuseArguments(0, 0))
}

function sendRequest(guest: FsGuest, one: typeof request extends fc.Arbitrary<infer T> ? T : never): void {
  const { opcode, node, body, off, cut, room, queue } = one
  const length = Math.max(spec.FUSE_IN_HEADER_SIZE + body.length + off, 0)
  const whole = Buffer.concat([fuseArguments(length, opcode, 7n, node, 0, 0, 0, 0), body])
  void guest.client
    .sendRaw(whole.subarray(0, Math.max(whole.length - cut, 1)), room, queue)
    .then(({ error, body: answer }) => {
      expect(error).toBeLessThanOrEqual(0)
      expect(error).toBeGreaterThan(-512)
      expect(answer.length + spec.FUSE_OUT_HEADER_SIZE).toBeLessThanOrEqual(
        Math.max(room, spec.FUSE_OUT_HEADER_SIZE),
      )
      if (error !== 0) expect(answer.length).toBe(0)
    })
}

const run = fc.array(fc.oneof({ weight: 2, arbitrary: request }, { weight: 1, arbitrary: sensible }), {
  maxLength: 60,
})

describe('a hostile driver of virtio-fs', () => {
  it('gets an answer to everything, from a file system whose calls are done at once', async () => {
    await fc.assert(
      fc.asyncProperty(run, async (steps) => {
        const fileSystem = new TestFileSystem(
          directoryItem(
            ['file', fileItem('contents')],
            ['dir', directoryItem(['inner', fileItem()], ['other', fileItem()])],
          ),
        )
        const guest = createGuest(fileSystem, { queueSize: 16, maxNodes: MAX_NODES, maxHandles: MAX_HANDLES })
        const { device, client, memory } = guest
        await client.init()
        for (const step of steps) {
          if ('opcode' in step) sendRequest(guest, step)
          else act(guest, step, () => {})
          expect(device.nodes).toBeLessThanOrEqual(MAX_NODES)
          expect(device.handles).toBeLessThanOrEqual(MAX_HANDLES)
          // No handle is lost, and none is kept.
          expect(fileSystem.open_.size).toBe(device.handles)
        }
        expect(device.pending).toBe(0)
        expect(memory.guardsIntact()).toBe(true)
        expect(client.transport.failures).toEqual([])
        await client.init()
        expect([device.nodes, device.handles]).toEqual([0, 0])
        // What is in it may have been renamed, removed or made anew: that is a driver's right.
        expect((await client.getattr(1)).mode & spec.S_IFMT).toBe(spec.S_IFDIR)
      }),
      { numRuns: 300 },
    )
  })

  it('and from one of the user, whose calls settle when they like', async () => {
    await fc.assert(
      fc.asyncProperty(run, async (steps) => {
        const slow = new SlowTree()
        slow.root.children?.set('dir', directoryItem(['inner', fileItem('x')]))
        const known = new Set<Item>()
        const guest = createGuest(new UserTree({ ...slow.source, forget: (node) => known.delete(node) }), {
          queueSize: 128,
          maxNodes: MAX_NODES,
          maxHandles: MAX_HANDLES,
        })
        const { device, client, memory } = guest
        await client.init()
        for (const step of steps) {
          if ('opcode' in step) sendRequest(guest, step)
          else act(guest, step, () => slow.waiting.shift()?.())
          if (slow.waiting.length % 3 === 0) await Promise.resolve()
          expect(device.nodes).toBeLessThanOrEqual(MAX_NODES)
          expect(device.handles).toBeLessThanOrEqual(MAX_HANDLES)
        }
        await slow.release()
        await device.idle()
        expect(memory.guardsIntact()).toBe(true)
        expect(client.transport.failures).toEqual([])
      }),
      { numRuns: 100 },
    )
  })
})
