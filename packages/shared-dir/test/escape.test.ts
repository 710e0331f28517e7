/** Ways out of a shared directory, by the guest's doing and by the host's: none leads anywhere. */
import {
  linkSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fuseArguments } from '@vmm/devices/testing'
import { describe, expect, test } from 'vitest'
import { ERRNO, type Mounted, mount, ROOT, refusal, startSwapping, temporaryDirectory } from './support.ts'

const LOOKUP = 1
const SYMLINK = 6
const MKNOD = 8
const MKDIR = 9
const UNLINK = 10
const RMDIR = 11
const LINK = 13
const CREATE = 35
const OPENDIR = 27
const READLINK = 5
const O_RDWR = 2
const O_TRUNC = 0o1000
const SECRET = 'this is none of your business'

/** A share with a secret beside it. */
async function withSecret(options: Parameters<typeof mount>[0] = {}): Promise<Mounted & { outside: string }> {
  const outside = temporaryDirectory()
  writeFileSync(join(outside, 'secret'), SECRET)
  mkdirSync(join(outside, 'share'))
  return { ...(await mount({ ...options, path: join(outside, 'share') })), outside }
}

describe('names that are none', () => {
  test.each(['..', '.', '', '/', '../secret', '/etc/passwd', 'a/b', 'x/../..'])(
    '%j is refused',
    async (name) => {
      const { client, outside, path } = await withSecret()
      writeFileSync(join(path, 'file'), '')
      const { id } = await client.lookup(ROOT, 'file')
      const attempts: [number, (number | bigint | string)[]][] = [
        [LOOKUP, [name]],
        [UNLINK, [name]],
        [RMDIR, [name]],
        [MKDIR, [0o755, 0, name]],
        [MKNOD, [0o100644, 0, 0, 0, name]],
        [CREATE, [O_RDWR | O_TRUNC, 0o644, 0, 0, name]],
        [SYMLINK, [name, 'target']],
        [LINK, [BigInt(id), name]],
      ]
      for (const [opcode, values] of attempts) {
        expect([opcode, await refusal(client.call(opcode, ROOT, fuseArguments(...values)))]).toEqual([
          opcode,
          ERRNO.EINVAL,
        ])
      }
      expect(await refusal(client.rename(ROOT, name, ROOT, 'new'))).toBe(ERRNO.EINVAL)
      expect(await refusal(client.rename(ROOT, 'file', ROOT, name))).toBe(ERRNO.EINVAL)
      expect(readFileSync(join(outside, 'secret'), 'utf8')).toBe(SECRET)
    },
  )

  test('a name without an end, with another one behind it, or too long', async () => {
    const { client } = await withSecret()
    expect(await refusal(client.call(LOOKUP, ROOT, Buffer.from('abc')))).toBe(ERRNO.EINVAL)
    expect(await refusal(client.call(LOOKUP, ROOT, Buffer.from('abc\0def\0')))).toBe(ERRNO.EINVAL)
    expect(await refusal(client.call(LOOKUP, ROOT, fuseArguments('x'.repeat(256))))).toBe(ERRNO.ENAMETOOLONG)
    expect((await client.lookup(ROOT, 'x'.repeat(255))).id).toBe(0)
    expect(await refusal(client.make(SYMLINK, ROOT, 'link', 'x'.repeat(4096)))).toBe(ERRNO.ENAMETOOLONG)
    expect((await client.make(SYMLINK, ROOT, 'link', 'x'.repeat(4095))).size).toBe(4095)
  })
})

describe('symbolic links', () => {
  test('are links, and nothing that is opened, listed or walked through', async () => {
    const { client, path, outside } = await withSecret()
    symlinkSync('../secret', join(path, 'host'))
    const guest = await client.make(SYMLINK, ROOT, 'guest', '/etc')
    const up = await client.make(SYMLINK, ROOT, 'up', '..')
    const host = await client.lookup(ROOT, 'host')
    expect((await client.call(READLINK, host.id, Buffer.alloc(0))).toString()).toBe('../secret')
    for (const { id } of [guest, up, host]) {
      expect(await refusal(client.open(id))).toBe(ERRNO.ELOOP)
      expect(await refusal(client.open(id, O_RDWR | O_TRUNC))).toBe(ERRNO.ELOOP)
      expect(await refusal(client.open(id, 0, OPENDIR))).toBe(ERRNO.ENOTDIR)
      expect(await refusal(client.lookup(id, 'secret'))).toBe(ERRNO.ENOTDIR)
      expect(await refusal(client.make(MKDIR, id, 0o755, 0, 'new'))).toBe(ERRNO.ENOTDIR)
    }
    expect(await refusal(client.create(ROOT, 'host', O_RDWR | O_TRUNC))).toBe(ERRNO.ELOOP)
    // A hard link to a link is a link.
    const hard = await client.make(LINK, ROOT, BigInt(host.id), 'hard')
    expect(hard.id).toBe(host.id)
    expect(readlinkSync(join(path, 'hard'))).toBe('../secret')
    // Renaming and removing is done to the link.
    await client.rename(ROOT, 'host', ROOT, 'moved')
    await client.call(UNLINK, ROOT, fuseArguments('moved'))
    expect(readFileSync(join(outside, 'secret'), 'utf8')).toBe(SECRET)
  })

  test('that lead to descriptors of this process are not followed', async () => {
    const { client, share } = await withSecret()
    const { id } = await client.make(SYMLINK, ROOT, 'magic', `/proc/self/fd/${share.root.fd}`)
    expect(await refusal(client.lookup(id, 'magic'))).toBe(ERRNO.ENOTDIR)
    expect(await refusal(client.open(id))).toBe(ERRNO.ELOOP)
  })
})

describe('what the host does meanwhile', () => {
  test('a directory that becomes a link is still that directory to the guest', async () => {
    const { client, path, outside } = await withSecret()
    mkdirSync(join(path, 'directory'))
    writeFileSync(join(path, 'directory/secret'), 'harmless')
    const { id } = await client.lookup(ROOT, 'directory')
    renameSync(join(path, 'directory'), join(path, 'elsewhere'))
    symlinkSync(outside, join(path, 'directory'))
    const file = await client.lookup(id, 'secret')
    expect((await client.read(file.id, await client.open(file.id), 0, 100)).toString()).toBe('harmless')
    await client.create(id, 'new')
    expect(statSync(join(path, 'elsewhere/new')).isFile()).toBe(true)
    const link = await client.lookup(ROOT, 'directory')
    expect(link.id).not.toBe(id)
    expect(await refusal(client.lookup(link.id, 'secret'))).toBe(ERRNO.ENOTDIR)
  })

  test('a file that is replaced is another file', async () => {
    const { client, path, outside } = await withSecret()
    writeFileSync(join(path, 'file'), 'harmless')
    const { id } = await client.lookup(ROOT, 'file')
    rmSync(join(path, 'file'))
    symlinkSync(join(outside, 'secret'), join(path, 'file'))
    expect((await client.read(id, await client.open(id), 0, 100)).toString()).toBe('harmless')
    expect((await client.lookup(ROOT, 'file')).id).not.toBe(id)
  })

  test('a hard link into the share is a file of the share, and as the guest sees it there', async () => {
    const { client, path, outside } = await withSecret()
    linkSync(join(outside, 'secret'), join(path, 'given'))
    const given = await client.lookup(ROOT, 'given')
    expect((await client.read(given.id, await client.open(given.id), 0, 100)).toString()).toBe(SECRET)
  })

  test('what is mounted inside is not there', async () => {
    const { client } = await mount({ path: '/', readOnly: true })
    expect(await refusal(client.lookup(ROOT, 'proc'))).toBe(ERRNO.EXDEV)
    const { client: crossing } = await mount({ path: '/', readOnly: true, crossMounts: true })
    const proc = await crossing.lookup(ROOT, 'proc')
    expect(proc.inode).toBeGreaterThan(2 ** 52)
    // Magic links are links, even there.
    const self = await crossing.lookup(proc.id, 'self')
    expect(await refusal(crossing.lookup(self.id, 'root'))).toBe(ERRNO.ENOTDIR)
    const process = await crossing.lookup(proc.id, String(globalThis.process.pid))
    const root = await crossing.lookup(process.id, 'root')
    expect(await refusal(crossing.lookup(root.id, 'etc'))).toBe(ERRNO.ENOTDIR)
    expect(await refusal(crossing.open(root.id))).toBe(ERRNO.ELOOP)
  })

  test.each([1024, 16])(
    'a directory that is swapped for a link all the time (%i descriptors)',
    async (maxDescriptors) => {
      const { client, path, outside } = await withSecret({ maxDescriptors, cacheSeconds: 0 })
      mkdirSync(join(path, 'victim'))
      writeFileSync(join(path, 'victim/secret'), 'harmless')
      symlinkSync(outside, join(path, 'link'))
      for (let i = 0; i < 40; i += 1) writeFileSync(join(path, `other-${i}`), '')
      const swapper = await startSwapping(path)
      const found = { directory: 0, link: 0, none: 0, read: 0, refused: 0 }
      try {
        const known: number[] = []
        // Until both have been met, and the host had its share of turns.
        for (let i = 0; i < 1500 || (found.read === 0 && i < 100_000); i += 1) {
          const { error, body } = await client.send(LOOKUP, ROOT, fuseArguments('victim'))
          if (error !== 0) {
            found.none += 1
            continue
          }
          const id = Number(body.readBigUInt64LE(0))
          const isLink = (body.readUInt32LE(40 + 60) & 0o170000) === 0o120000
          found[isLink ? 'link' : 'directory'] += 1
          known.push(id)
          // Others push its descriptor out.
          if (maxDescriptors < 40)
            for (let j = 0; j < 20; j += 1) await client.lookup(ROOT, `other-${(i + j) % 40}`)
          for (const node of [id, known[i % known.length] ?? id]) {
            const file = await client.send(LOOKUP, node, fuseArguments('secret'))
            if (file.error !== 0) {
              expect([-ERRNO.ENOTDIR, -ERRNO.ESTALE]).toContain(file.error)
              found.refused += 1
              continue
            }
            const fileId = Number(file.body.readBigUInt64LE(0))
            const open = await client.send(14, fileId, fuseArguments(0, 0))
            if (open.error !== 0) {
              expect(open.error).toBe(-ERRNO.ESTALE)
              continue
            }
            const handle = Number(open.body.readBigUInt64LE(0))
            expect((await client.read(fileId, handle, 0, 100)).toString()).toBe('harmless')
            await client.release(fileId, handle)
            found.read += 1
          }
        }
      } finally {
        await swapper.stop()
      }
      expect(found.read).toBeGreaterThan(0)
      expect(swapper.swaps).toBeGreaterThan(0)
    },
  )
})
