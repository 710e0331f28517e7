import { readFileSync } from 'node:fs'
import { MockMemory } from '@vmm/virtio-queue/testing'
import { describe, expect, it } from 'vitest'
import { fuseArguments, parseDirents } from '../../src/testing/index.ts'
import * as spec from '../../src/virtio/fs/spec.ts'
import { FS_ERRNO, Fs, VIRTIO_ID_FS } from '../../src/virtio/index.ts'
import * as reg from '../../src/virtio/mmio/registers.ts'
import { codeThrownBy } from '../support.ts'
import {
  createGuest,
  directoryItem,
  fileItem,
  mounted,
  ROOT,
  refusal,
  SlowTree,
  TestFileSystem,
} from './fs-support.ts'
import { Guest } from './support.ts'

const ENOSYS_OPCODES = [
  21, 22, 23, 24, 25, 31, 32, 33, 34, 37, 39, 40, 48, 49, 50, 51, 0, 7, 4096, 0xffff_ffff,
]

const tree = () =>
  new TestFileSystem(
    directoryItem(['file', fileItem('contents')], ['dir', directoryItem(['inner', fileItem('x')])]),
  )

describe('virtio-fs numbers', () => {
  it('are those of <linux/fuse.h>', () => {
    const header = readFileSync('/usr/include/linux/fuse.h', 'utf8')
    const names = Object.keys(spec).filter((name) => /^(FUSE|FATTR|FOPEN)_/.test(name))
    const numbers: Record<string, unknown> = { ...spec }
    // Ours, and sizes: sums of fields, which requests and answers prove.
    const own = names.filter((name) => /_SIZE$|_LEAST$/.test(name))
    for (const name of names.filter((one) => !own.includes(one))) {
      if (name === 'FUSE_NAME_OFFSET') continue
      const match = new RegExp(`(?:define\\s+${name}|\\t${name}\\s*=)\\s+(?:\\(1 << (\\d+)\\)|(\\d+))`).exec(
        header,
      )
      expect([name, match !== null]).toEqual([name, true])
      const value = match?.[1] === undefined ? Number(match?.[2]) : 2 ** Number(match[1])
      expect([name, numbers[name]]).toEqual([name, value])
    }
    expect(names.length - own.length).toBeGreaterThan(50)
  })
})

describe('the configuration of virtio-fs', () => {
  it('has the tag and the queues', () => {
    const guest = new Guest(new Fs({ tag: 'köln', fileSystem: tree(), queues: 3, queueSize: 64 }))
    expect(guest.read(reg.VIRTIO_MMIO_DEVICE_ID)).toBe(VIRTIO_ID_FS)
    expect(Buffer.from(guest.device.config.subarray(0, 36)).toString().replaceAll('\0', '')).toBe('köln')
    expect(guest.read(reg.VIRTIO_MMIO_CONFIG + spec.VIRTIO_FS_CONFIG_NUM_QUEUES_OFFSET)).toBe(3)
    expect(guest.device.queueSizes).toEqual([64, 64, 64, 64])
  })

  it.each([
    { tag: '' },
    { tag: 'x'.repeat(37) },
    { tag: 'ü'.repeat(19) },
    { tag: 'a\0b' },
    { queues: 0 },
    { queues: 65 },
    { queueSize: 4 },
    { queueSize: 100 },
    { maxNodes: 0 },
    { maxHandles: 2.5 },
  ])('refuses %o', (options) => {
    expect(codeThrownBy(() => new Fs({ tag: 'x', fileSystem: tree(), ...options }))).toBe('ERR_DEVICE_OPTION')
  })

  it('refuses a cache time that is none', () => {
    const fileSystem = Object.assign(tree(), { cacheSeconds: Number.NaN })
    expect(codeThrownBy(() => new Fs({ tag: 'x', fileSystem }))).toBe('ERR_DEVICE_OPTION')
  })
})

describe('a mount', () => {
  it('is negotiated: version, flags, sizes', async () => {
    const { client } = createGuest(tree())
    const offered = 0xffff_ffff
    const answer = await client.init(offered)
    expect(answer.length).toBe(64)
    expect([answer.readUInt32LE(0), answer.readUInt32LE(4)]).toEqual([7, 38])
    const flags = answer.readUInt32LE(12)
    expect(flags & spec.FUSE_ATOMIC_O_TRUNC).toBe(spec.FUSE_ATOMIC_O_TRUNC)
    expect(flags & spec.FUSE_DO_READDIRPLUS).toBe(spec.FUSE_DO_READDIRPLUS)
    // Writes go through, locks are the guest's, names end at the root: WRITEBACK_CACHE, POSIX_LOCKS, EXPORT_SUPPORT.
    expect(flags & (0x1_0000 | 0x2 | 0x10)).toBe(0)
    expect([answer.readUInt32LE(20), answer.readUInt16LE(28)]).toEqual([0x10_0000, 256])
    expect((await client.init(spec.FUSE_ASYNC_READ)).readUInt32LE(12)).toBe(spec.FUSE_ASYNC_READ)
  })

  it('leaves O_TRUNC to the guest where there is no open', async () => {
    const fileSystem = Object.assign(tree(), { open: undefined })
    const { client } = createGuest(fileSystem as never)
    expect((await client.init()).readUInt32LE(12) & spec.FUSE_ATOMIC_O_TRUNC).toBe(0)
  })

  it('of a version to come is asked for again, of one long gone it is refused', async () => {
    const { client, device } = createGuest(tree())
    const init = (major: number, minor: number) =>
      client.call(spec.FUSE_INIT, 0, fuseArguments(major, minor, 0, 0, Buffer.alloc(48)))
    expect((await init(8, 0)).readUInt32LE(0)).toBe(7)
    expect(device.state()).toEqual({ version: 1 })
    expect(await refusal(init(6, 40))).toBe(FS_ERRNO.EPROTO)
    expect(await refusal(init(7, 30))).toBe(FS_ERRNO.EPROTO)
    expect(await refusal(client.lookup(ROOT, 'file'))).toBe(FS_ERRNO.EIO)
    await init(7, 31)
    await client.lookup(ROOT, 'file')
  })

  it('ends, and gives everything back, by DESTROY, another INIT, or a reset', async () => {
    const fileSystem = tree()
    const { client, device } = createGuest(fileSystem)
    const ends = [
      () => client.call(spec.FUSE_DESTROY, 0, Buffer.alloc(0)),
      () => client.init(),
      () => client.transport.reset(),
    ]
    for (const end of ends) {
      await client.init()
      const { id } = await client.lookup(ROOT, 'file')
      await client.open(id)
      expect([device.nodes, device.handles, fileSystem.open_.size]).toEqual([1, 1, 1])
      expect(codeThrownBy(() => device.state())).toBe('ERR_DEVICE_BUSY')
      await end()
      expect([device.nodes, device.handles, fileSystem.open_.size]).toEqual([0, 0, 0])
    }
    expect(fileSystem.forgotten.length).toBe(3)
    expect(device.state()).toEqual({ version: 1 })
    new Fs({ tag: 'x', fileSystem }).restore({ version: 1 })
    expect(codeThrownBy(() => new Fs({ tag: 'x', fileSystem }).restore({ version: 2 }))).toBe(
      'ERR_DEVICE_STATE',
    )
  })

  it('gives no number twice', async () => {
    const { client } = await mounted(tree())
    const { id } = await client.lookup(ROOT, 'file')
    await client.forget(id)
    expect((await client.lookup(ROOT, 'file')).id).toBeGreaterThan(id)
  })
})

describe('nodes', () => {
  it('are known for as long as the guest has not forgotten them as often as it was told of them', async () => {
    const fileSystem = tree()
    const { client, device } = await mounted(fileSystem)
    const { id } = await client.lookup(ROOT, 'file')
    await client.lookup(ROOT, 'file')
    await client.list(ROOT, true)
    await client.forget(id, 2)
    expect((await client.getattr(id)).size).toBe(8)
    expect(device.nodes).toBe(2)
    await client.forget(id, 2 ** 40)
    expect(await refusal(client.getattr(id))).toBe(FS_ERRNO.ESTALE)
    await client.forget(id)
    await client.forget(ROOT, 100)
    await client.forget(12345)
    expect((await client.getattr(ROOT)).mode).toBe(0o040755)
    expect(fileSystem.forgotten.length).toBe(1)
  })

  it('are forgotten many at once, and no more than there are', async () => {
    const { client, device } = await mounted(tree())
    const { id } = await client.lookup(ROOT, 'file')
    const { id: dir } = await client.lookup(ROOT, 'dir')
    const batch = fuseArguments(1000, 0, BigInt(id), 1n, BigInt(dir), 1n)
    const header = fuseArguments(40 + batch.length, spec.FUSE_BATCH_FORGET, 0n, 0n, 0, 0, 0, 0)
    await client.sendRaw(Buffer.concat([header, batch]), 0, 0)
    expect(device.nodes).toBe(0)
  })

  it('that nobody gave are none', async () => {
    const { client } = await mounted(tree())
    for (const id of [2, 100, 2 ** 53 - 1]) expect(await refusal(client.getattr(id))).toBe(FS_ERRNO.ESTALE)
    for (const id of [2n ** 53n, 2n ** 64n - 1n]) {
      expect(await refusal(client.call(spec.FUSE_GETATTR, id, fuseArguments(0, 0, 0n)))).toBe(FS_ERRNO.ESTALE)
    }
  })
})

describe('handles', () => {
  it('are good for their own file and kind, and until they are released', async () => {
    const { client } = await mounted(tree())
    const { id } = await client.lookup(ROOT, 'file')
    const { id: inner } = await client.walk('dir/inner')
    const { id: dir } = await client.lookup(ROOT, 'dir')
    const handle = await client.open(id)
    const listing = await client.open(dir, 0, spec.FUSE_OPENDIR)
    expect((await client.read(id, handle, 2, 3)).toString()).toBe('nte')
    for (const [node, wrong] of [
      [inner, handle],
      [id, handle + 100],
      [dir, listing],
      [id, 0],
    ] as const) {
      expect(await refusal(client.read(node, wrong, 0, 1))).toBe(FS_ERRNO.EBADF)
    }
    const readdir = (node: number, one: number) =>
      client.call(spec.FUSE_READDIR, node, fuseArguments(BigInt(one), 0n, 100, 0, 0n, 0, 0))
    expect(await refusal(readdir(id, handle))).toBe(FS_ERRNO.EBADF)
    expect(parseDirents(await readdir(dir, listing), false).map(({ name }) => name)).toEqual(['inner'])
    expect(await refusal(client.release(dir, listing))).toBe(FS_ERRNO.EBADF)
    await client.release(dir, listing, spec.FUSE_RELEASEDIR)
    await client.release(id, handle)
    expect(await refusal(client.release(id, handle))).toBe(FS_ERRNO.EBADF)
  })
})

describe('what a file system leaves out', () => {
  it('is refused as Linux takes it best', async () => {
    const { client } = await mounted({
      root: {},
      readOnly: false,
      cacheSeconds: 0,
      lookup: (request) => {
        request.found = request.node
        return 0
      },
      getattr: () => 0,
      read: () => 0,
      readdir: () => 0,
    })
    const name = fuseArguments('x')
    const attempts: [number, Uint8Array, number][] = [
      [spec.FUSE_OPEN, fuseArguments(0, 0), FS_ERRNO.ENOSYS],
      [spec.FUSE_OPENDIR, fuseArguments(0, 0), FS_ERRNO.ENOSYS],
      [spec.FUSE_CREATE, fuseArguments(0, 0, 0, 0, 'x'), FS_ERRNO.ENOSYS],
      [spec.FUSE_FSYNC, fuseArguments(0n, 0, 0), FS_ERRNO.ENOSYS],
      [spec.FUSE_FSYNCDIR, fuseArguments(0n, 0, 0), FS_ERRNO.ENOSYS],
      [spec.FUSE_FALLOCATE, fuseArguments(0n, 0n, 1n, 0, 0), FS_ERRNO.ENOSYS],
      [spec.FUSE_LSEEK, fuseArguments(0n, 0n, 3, 0), FS_ERRNO.ENOSYS],
      [spec.FUSE_COPY_FILE_RANGE, fuseArguments(0n, 0n, 1n, 0n, 0n, 1n, 0n), FS_ERRNO.ENOSYS],
      [spec.FUSE_READLINK, Buffer.alloc(0), FS_ERRNO.EINVAL],
      [spec.FUSE_MKDIR, fuseArguments(0, 0, 'x'), FS_ERRNO.EPERM],
      [spec.FUSE_MKNOD, fuseArguments(0o100644, 0, 0, 0, 'x'), FS_ERRNO.EPERM],
      [spec.FUSE_SYMLINK, fuseArguments('x', 'y'), FS_ERRNO.EPERM],
      [spec.FUSE_LINK, fuseArguments(1n, 'x'), FS_ERRNO.EPERM],
      [spec.FUSE_UNLINK, name, FS_ERRNO.EPERM],
      [spec.FUSE_RMDIR, name, FS_ERRNO.EPERM],
      [spec.FUSE_RENAME, fuseArguments(1n, 'x', 'y'), FS_ERRNO.EPERM],
      [spec.FUSE_SETATTR, Buffer.alloc(88), FS_ERRNO.EPERM],
      [spec.FUSE_WRITE, fuseArguments(0n, 0n, 1, 0, 0n, 0, 0, Buffer.alloc(1)), FS_ERRNO.EPERM],
    ]
    for (const [opcode, body, errno] of attempts) {
      expect([opcode, await refusal(client.call(opcode, ROOT, body))]).toEqual([opcode, errno])
    }
    expect((await client.call(spec.FUSE_STATFS, ROOT, Buffer.alloc(0))).length).toBe(80)
    expect((await client.read(ROOT, 0, 0, 10)).length).toBe(0)
    await client.release(ROOT, 0)
    await client.release(ROOT, 0, spec.FUSE_RELEASEDIR)
  })

  it('as what nobody has: ENOSYS', async () => {
    const { client } = await mounted(tree())
    for (const opcode of ENOSYS_OPCODES) {
      expect([opcode, await refusal(client.call(opcode, ROOT, Buffer.alloc(64)))]).toEqual([
        opcode,
        FS_ERRNO.ENOSYS,
      ])
    }
  })
})

describe('malformed requests', () => {
  it('that say another length than they have, or have no header, are faults and EINVAL', async () => {
    const { client } = await mounted(tree())
    const header = (length: number) => fuseArguments(length, spec.FUSE_GETATTR, 77n, 1n, 0, 0, 0, 0)
    const body = fuseArguments(0, 0, 0n)
    for (const request of [
      Buffer.concat([header(55), body]),
      Buffer.concat([header(57), body]),
      Buffer.concat([header(0xffff_ffff), body]),
      header(40).subarray(0, 39),
      Buffer.alloc(1),
    ]) {
      client.transport.faults.length = 0
      const { error } = await client.sendRaw(request, 200)
      expect([error, client.transport.faults.map(({ code }) => code)]).toEqual([
        -FS_ERRNO.EINVAL,
        ['ERR_FS_REQUEST'],
      ])
    }
    // Arguments that are missing are no matter for the queue.
    client.transport.faults.length = 0
    expect((await client.sendRaw(Buffer.concat([header(48), body.subarray(0, 8)]), 200)).error).toBe(
      -FS_ERRNO.EINVAL,
    )
    expect(client.transport.faults).toEqual([])
  })

  it('without room for the answer do nothing', async () => {
    const fileSystem = tree()
    const { client, device } = await mounted(fileSystem)
    const body = fuseArguments(2, 0o644, 0, 0, 'new')
    for (const room of [16, 16 + 128 + 15]) {
      expect((await client.send(spec.FUSE_CREATE, ROOT, body, room)).error).toBe(-FS_ERRNO.EINVAL)
    }
    const none = await client.send(spec.FUSE_CREATE, ROOT, body, 15)
    expect([none.error, none.body.length]).toEqual([0, 0])
    await client.send(spec.FUSE_CREATE, ROOT, body, 0)
    expect([device.nodes, device.handles, fileSystem.root.children?.has('new')]).toEqual([0, 0, false])
    expect(client.transport.faults.map(({ code }) => code)).toEqual(Array(4).fill('ERR_FS_REPLY'))
  })

  it('of more bytes than any may have are not looked at', async () => {
    const { client, memory } = await mounted(tree())
    const driver = client.transport.drivers[1]
    // 64 times the same megabyte: chains may say so.
    const count = 64
    const address = 0x10_0000
    const header = fuseArguments(count * 2 ** 20, spec.FUSE_BATCH_FORGET, 0n, 0n, 0, 0, 0, 0, 0xffff_ffff, 0)
    memory.write(address, header)
    driver?.add(Array.from({ length: count }, () => ({ address, length: 2 ** 20 })))
    driver?.publish()
    await client.getattr(ROOT)
    expect(client.transport.faults.map(({ code }) => code)).toEqual(['ERR_FS_REQUEST'])
  })

  it('with positions and lengths that no file has', async () => {
    const { client } = await mounted(tree())
    const { id } = await client.lookup(ROOT, 'file')
    const handle = BigInt(await client.open(id, 2))
    const read = (position: bigint, length: number) =>
      client.call(spec.FUSE_READ, id, fuseArguments(handle, position, length, 0, 0n, 0, 0))
    expect(await refusal(read(2n ** 53n, 1))).toBe(FS_ERRNO.EINVAL)
    expect(await refusal(read(2n ** 53n - 1n, 2))).toBe(FS_ERRNO.EINVAL)
    expect((await read(2n ** 40n, 0xffff_ffff)).length).toBe(0)
    const write = (position: bigint, length: number, data: number) =>
      client.call(
        spec.FUSE_WRITE,
        id,
        fuseArguments(handle, position, length, 0, 0n, 0, 0, Buffer.alloc(data)),
      )
    expect(await refusal(write(2n ** 63n, 1, 1))).toBe(FS_ERRNO.EFBIG)
    expect(await refusal(write(0n, 2, 1))).toBe(FS_ERRNO.EINVAL)
    expect(await refusal(write(0n, 1, 2))).toBe(FS_ERRNO.EINVAL)
    expect((await write(0n, 2, 2)).readUInt32LE(0)).toBe(2)
  })
})

describe('answers', () => {
  it('bring the number back that the request had, all 64 bits, and the length written', async () => {
    const { client, memory } = await mounted(tree())
    const header = fuseArguments(56, spec.FUSE_GETATTR, 0xfedc_ba98_7654_3210n, 1n, 0, 0, 0, 0, 0, 0, 0n)
    const [, driver] = client.transport.drivers
    const at = 0x20_0000
    memory.write(at, header)
    // Cut anywhere: framing says nothing.
    driver?.add([
      { address: at, length: 7 },
      { address: at + 7, length: 49 },
      { address: at + 0x100, length: 5, writable: true },
      { address: at + 0x105, length: 200, writable: true },
    ])
    memory.clearDirty()
    let length = 0
    client.transport.onInterrupt = () => {
      length = driver?.reap()?.length ?? 0
    }
    driver?.publish()
    const { send } = client
    await send.call(client, spec.FUSE_STATFS, ROOT, Buffer.alloc(0))
    const view = new DataView(memory.read(at + 0x100, 205).buffer)
    expect([view.getUint32(0, true), view.getInt32(4, true)]).toEqual([16 + 104, 0])
    expect(view.getBigUint64(8, true)).toBe(0xfedc_ba98_7654_3210n)
    expect(length).toBe(120)
    expect([memory.isDirty(at + 0x100, 120), memory.isDirty(at + 0x100 + 120, 1)]).toEqual([true, false])
  })

  it('of what a file system throws are EIO, and reported', async () => {
    const fileSystem = tree()
    const { client } = await mounted(fileSystem)
    fileSystem.getattr = () => {
      throw new Error('broken')
    }
    expect(await refusal(client.getattr(ROOT))).toBe(FS_ERRNO.EIO)
    expect(client.transport.failures).toEqual([new Error('broken')])
    fileSystem.getattr = () => {
      throw Object.assign(new Error('no'), { code: 'EACCES' })
    }
    expect(await refusal(client.getattr(ROOT))).toBe(FS_ERRNO.EACCES)
    expect(client.transport.failures.length).toBe(1)
    fileSystem.getattr = () => -100_000
    expect(await refusal(client.getattr(ROOT))).toBe(FS_ERRNO.EIO)
  })
})

describe('requests that take their time', () => {
  it('are answered in any order, and the queue goes on meanwhile', async () => {
    const slow = new SlowTree()
    const { client, device } = await mounted(slow.fileSystem)
    const late = client.lookup(ROOT, 'file')
    expect((await client.getattr(ROOT)).mode & 0o170000).toBe(0o040000)
    expect(device.pending).toBe(1)
    await slow.release()
    expect((await late).size).toBe(8)
    expect(device.pending).toBe(0)
    await device.idle()
  })

  it('are no more than fit the queue, those of before resets included', async () => {
    const slow = new SlowTree()
    const memory = new MockMemory([{ start: 0, size: 0x40_0000 }])
    const device = new Fs({ tag: 'x', fileSystem: slow.fileSystem, queueSize: 16 })
    const guest = new Guest(device, { memory })
    const init = Buffer.concat([
      fuseArguments(104, spec.FUSE_INIT, 1n, 0n, 0, 0, 0, 0, 7, 38, 0, 0),
      Buffer.alloc(48),
    ])
    const lookup = Buffer.concat([
      fuseArguments(45, spec.FUSE_LOOKUP, 2n, 1n, 0, 0, 0, 0),
      Buffer.from('file\0'),
    ])
    for (let round = 0; round < 5; round += 1) {
      const [, driver] = guest.start()
      memory.write(0x10_0000, init)
      memory.write(0x10_1000, lookup)
      const send = (address: number, length: number) => {
        driver?.send([
          { address, length },
          { address: 0x20_0000, length: 200, writable: true },
        ])
        guest.notify(1)
        driver?.reapAll()
      }
      send(0x10_0000, init.length)
      for (let i = 0; i < 7; i += 1) send(0x10_1000, lookup.length)
      guest.turns()
      expect(device.pending).toBeLessThanOrEqual(16)
    }
    expect(device.pending).toBe(16)
    memory.clearDirty()
    guest.status = 0
    await slow.release()
    await device.idle()
    // What ended after the reset has touched nothing.
    expect(memory.isDirty(0x20_0000, 1)).toBe(false)
    expect([device.pending, device.nodes]).toEqual([0, 0])
  })

  it('and end after the mount they belong to are dropped', async () => {
    const slow = new SlowTree()
    const forgotten: object[] = []
    const fileSystem = slow.fileSystem
    fileSystem.forget = (node) => forgotten.push(node)
    const { client, device } = await mounted(fileSystem)
    const late = client.send(spec.FUSE_LOOKUP, ROOT, fuseArguments('file'))
    await client.init()
    await slow.release()
    expect((await late).error).toBe(-FS_ERRNO.EIO)
    expect([device.nodes, forgotten.length]).toEqual([0, 1])
  })
})
