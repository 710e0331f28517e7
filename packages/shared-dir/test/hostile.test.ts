/** A guest that asks for anything, of a directory that has neighbours. */
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fuseArguments } from '@vmm/devices/testing'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { countFds, mount, temporaryDirectory } from './support.ts'

const OPCODES = Array.from({ length: 52 }, (_, i) => i)
const CHANGING_TYPES = [0o100644, 0o010644, 0o040755, 0o104755, 0o020644]

const node = fc.oneof({ weight: 8, arbitrary: fc.nat(12) }, fc.nat(2 ** 31 - 1))
const name = fc.constantFrom(
  'file',
  'dir',
  'inner',
  'link',
  'up',
  'new',
  'x',
  '..',
  '.',
  '/etc',
  '../secret',
  'dir/inner',
)
const value32 = fc.oneof(fc.nat(9), fc.constantFrom(...CHANGING_TYPES), fc.nat(0xffff_ffff))
const value64 = fc.oneof(
  { weight: 5, arbitrary: fc.bigInt({ min: 0n, max: 12n }) },
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
)

/** Requests with arguments of the right form, and some of any. */
const request = fc.oneof(
  fc.record({ opcode: fc.constant(1), node, body: name.map((one) => fuseArguments(one)) }),
  fc.record({
    opcode: fc.constantFrom(14, 27),
    node,
    body: fc.constantFrom(0, 1, 2, 0o1000, 0o2001).map((flags) => fuseArguments(flags, 0)),
  }),
  fc.record({
    opcode: fc.constantFrom(8),
    node,
    body: fc.tuple(value32, name).map(([mode, one]) => fuseArguments(mode, 0, 0, 0, one)),
  }),
  fc.record({
    opcode: fc.constantFrom(9),
    node,
    body: fc.tuple(value32, name).map(([mode, one]) => fuseArguments(mode, 0, one)),
  }),
  fc.record({ opcode: fc.constantFrom(10, 11), node, body: name.map((one) => fuseArguments(one)) }),
  fc.record({
    opcode: fc.constant(6),
    node,
    body: fc.tuple(name, name).map(([one, text]) => fuseArguments(one, text)),
  }),
  fc.record({
    opcode: fc.constantFrom(12, 13),
    node,
    body: fc.tuple(value64, name, name).map(([to, one, two]) => fuseArguments(to, one, two)),
  }),
  fc.record({
    opcode: fc.constant(13),
    node,
    body: fc.tuple(value64, name).map(([to, one]) => fuseArguments(to, one)),
  }),
  fc.record({
    opcode: fc.constant(45),
    node,
    body: fc
      .tuple(value64, fc.nat(4), name, name)
      .map(([to, flags, one, two]) => fuseArguments(to, flags, 0, one, two)),
  }),
  fc.record({
    opcode: fc.constant(35),
    node,
    body: fc.tuple(value32, value32, name).map(([flags, mode, one]) => fuseArguments(flags, mode, 0, 0, one)),
  }),
  fc.record({
    opcode: fc.constantFrom(15, 28, 44),
    node,
    body: fc.tuple(value64, value64).map(([handle, at]) => fuseArguments(handle, at, 400, 0, 0n, 0, 0)),
  }),
  fc.record({
    opcode: fc.constant(16),
    node,
    body: fc
      .tuple(value64, fc.nat(5000))
      .map(([handle, at]) => fuseArguments(handle, BigInt(at), 4, 0, 0n, 1, 0, Buffer.from('text'))),
  }),
  // Sizes and ranges that fill no disk; whatever else may be.
  fc.record({
    opcode: fc.constant(4),
    node,
    body: fc
      .tuple(fc.nat(0xffff), value64, fc.nat(9999), value32)
      .map(([valid, handle, size, mode]) =>
        fuseArguments(valid, 0, handle, BigInt(size), 0n, 5n, 6n, 0n, 7, 8, 0, mode, 0, 0, 0, 0),
      ),
  }),
  fc.record({
    opcode: fc.constantFrom(...OPCODES.filter((opcode) => opcode !== 43)),
    node,
    body: fc
      .array(value32, { maxLength: 24 })
      .map((values) => fuseArguments(...values.map((one) => one % 100_000))),
  }),
)

/** Everything below a directory, as text. Links are not followed: the guest makes some that lead back. */
function describeTree(path: string, prefix = ''): string[] {
  return readdirSync(path)
    .sort()
    .flatMap((one) => {
      const file = join(path, one)
      const stats = lstatSync(file)
      const contents = stats.isFile()
        ? readFileSync(file, 'latin1')
        : stats.isSymbolicLink()
          ? readlinkSync(file)
          : ''
      const line = `${prefix}${one} ${stats.mode.toString(8)} ${stats.nlink} ${contents}`
      return [line, ...(stats.isDirectory() ? describeTree(file, `${prefix}${one}/`) : [])]
    })
}

test.each([{ readOnly: false }, { readOnly: true }])(
  'nothing beside the share is read or changed (%o)',
  async ({ readOnly }) => {
    const before = countFds()
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 20, maxLength: 120 }), async (requests) => {
        const outside = temporaryDirectory()
        const path = join(outside, 'share')
        mkdirSync(join(outside, 'other'))
        writeFileSync(join(outside, 'secret'), 'SECRET')
        mkdirSync(join(path, 'dir'), { recursive: true })
        writeFileSync(join(path, 'file'), 'contents')
        writeFileSync(join(path, 'dir/inner'), 'contents')
        symlinkSync('../secret', join(path, 'link'))
        symlinkSync('../other', join(path, 'up'))
        const inside = describeTree(path)
        const around = () =>
          describeTree(outside).filter((line) => !line.startsWith('share/') && !line.startsWith('share '))
        const outsideBefore = around()
        const { client, share, device } = await mount({
          path,
          readOnly,
          maxDescriptors: 16,
          limits: { maxNodes: 8, maxHandles: 8 },
        })
        for (const { opcode, node: id, body } of requests) {
          const isUnanswered = opcode === 2 || opcode === 36 || opcode === 42
          const { error, body: answer } = await client.send(opcode, id, body, isUnanswered ? 0 : 2048)
          expect(error).toBeLessThanOrEqual(0)
          expect(answer.includes('SECRET')).toBe(false)
          expect(device.nodes).toBeLessThanOrEqual(8)
          expect(share.descriptors).toBeLessThanOrEqual(16 + 8)
          if (opcode === 38) await client.init()
        }
        expect(around()).toEqual(outsideBefore)
        if (readOnly) expect(describeTree(path)).toEqual(inside)
        expect(client.transport.failures).toEqual([])
        expect([share.nodes, device.nodes].every((count) => count <= 8)).toBe(true)
        client.transport.reset()
        expect(share.descriptors).toBe(0)
        share.close()
        rmSync(outside, { recursive: true })
      }),
      { numRuns: 60 },
    )
    expect(countFds()).toBeLessThanOrEqual(before + 1)
  },
)
