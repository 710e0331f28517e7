/**
 * Shared directories under Linux's own virtio-fs driver: of the host, read-write and read-only, and one that exists only in JavaScript.
 */
import { createHash, randomBytes } from 'node:crypto'
import {
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Fs, MemoryLink, memoryTree, UserTree, type UserTreeSource } from '@vmm/devices/virtio'
import { type AttachDevice, stateFromJson, stateToJson } from '@vmm/microvm'
import { SharedDirectory, type SharedDirectoryOptions } from '@vmm/shared-dir'
import { Snapshot, writeSnapshot } from '@vmm/snapshot'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeWithKvm } from '../support/kvm.ts'
import { LinuxVm } from '../support/microvm.ts'

/** A source tree of some ten files. */
const SOURCES = fileURLToPath(new URL('../../packages/shared-dir/src', import.meta.url))

let folder: string

const share =
  (tag: string, path: string, options?: SharedDirectoryOptions): AttachDevice =>
  (host) => {
    const fileSystem = host.own(new SharedDirectory(path, options))
    host.virtio.attach(new Fs({ tag, fileSystem }), { hostFailure: (error) => host.warn(String(error)) })
  }

/** All files below a directory, with their contents' sums. */
function sums(path: string): Map<string, string> {
  const files = readdirSync(path, { recursive: true, encoding: 'utf8' }).filter((name) =>
    lstatSync(join(path, name)).isFile(),
  )
  const md5 = (name: string) =>
    createHash('md5')
      .update(readFileSync(join(path, name)))
      .digest('hex')
  return new Map(files.sort().map((name) => [name, md5(name)]))
}

/** Linux with two file systems that it has not mounted: `one` and `two`. */
const start = (devices: readonly [one: AttachDevice, two: AttachDevice]): Promise<LinuxVm> =>
  LinuxVm.start({ devices, shape: 'fs one and two' })

async function run(
  devices: readonly [one: AttachDevice, two: AttachDevice],
  commands: readonly string[],
): Promise<LinuxVm> {
  const linux = await start(devices)
  linux.type(...commands, 'poweroff')
  expect((await linux.ended).kind).toBe('reset')
  expect(linux.warnings).toEqual([])
  return linux
}

describeWithKvm('shared directories in Linux', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-share-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('a source tree goes from one share to another, and the host sees the same bytes', async () => {
    const from = mkdtempSync(join(folder, 'from-'))
    const to = mkdtempSync(join(folder, 'to-'))
    cpSync(SOURCES, join(from, 'src'), { recursive: true })
    writeFileSync(join(folder, 'secret'), 'SECRET')
    symlinkSync('../secret', join(from, 'out'))
    symlinkSync(join(from, 'src/index.ts'), join(from, 'host'))
    const linux = await run(
      [share('one', from, { readOnly: true }), share('two', to)],
      [
        'mkdir /from /to; mount -t virtiofs one /from && mount -t virtiofs two /to; cd /to',
        'cp -r /from/src copy; (cd copy; find . -type f | xargs md5sum) > sums',
        'echo hello > a; mv a b; ln -s b link; ln b hard; chmod 640 b; rm b; mkdir -p d/e; rmdir d/e; mkfifo pipe',
        'echo "attributes $(stat -c %a:%h:%u hard) $(readlink link) $(ls)"',
        'echo more >> hard; echo "hard $(cat hard)"',
        'echo x > /from/x; rm /from/src/index.ts; mv /from/src /from/y; chmod 777 /from/src; mkdir /from/z',
        // What a link of the host's says is looked up in the guest, which has no such files.
        'cat /from/out; cat /from/host; ls /from/..',
        'cd /; df /to > /dev/null && echo "free 1"; umount /to && umount /from && echo unmounted',
      ],
    )
    const { output } = linux
    const expected = sums(join(from, 'src'))
    expect(expected.size).toBeGreaterThan(8)
    expect(sums(join(to, 'copy'))).toEqual(expected)
    const told = readFileSync(join(to, 'sums'), 'latin1').trim().split('\n')
    expect(new Map(told.map((line) => [line.slice(36), line.slice(0, 32)]))).toEqual(
      new Map([...expected].sort()),
    )
    expect(output).toMatch(/^attributes 640:1:0 b copy$/m)
    expect(output).toMatch(/^hard hello\nmore$/m)
    expect(readFileSync(join(to, 'hard'), 'latin1')).toBe('hello\nmore\n')
    expect(statSync(join(to, 'hard')).mode & 0o777).toBe(0o640)
    expect(readlinkSync(join(to, 'link'))).toBe('b')
    expect(readdirSync(to).sort()).toEqual(['copy', 'd', 'hard', 'link', 'pipe', 'sums'])
    expect(statSync(join(to, 'pipe')).isFIFO()).toBe(true)
    expect(output.match(/Read-only file system/g)?.length).toBe(5)
    expect(readdirSync(from).sort()).toEqual(['host', 'out', 'src'])
    expect(output).not.toContain('SECRET')
    expect(output).toContain("can't open '/from/out'")
    expect(output).toContain("can't open '/from/host'")
    expect(output).toMatch(/^free 1$/m)
    expect(output).toMatch(/^unmounted$/m)
  })

  test('a share that is mounted is saved with the VM, with what is open', async () => {
    const path = mkdtempSync(join(folder, 'saved-'))
    const snapshotPath = mkdtempSync(join(folder, 'snapshot-'))
    const secret = join(folder, 'not-shared')
    writeFileSync(secret, 'SECRET')
    mkdirSync(join(path, 'dir'))
    // Longer than what Linux reads ahead.
    const big = Buffer.from(randomBytes(90_000).toString('hex'))
    writeFileSync(join(path, 'dir/big'), big)
    for (const name of ['removed', 'swapped']) writeFileSync(join(path, name), `${name}\n`)
    const tree = () =>
      new UserTree(memoryTree({ 'hello.txt': 'hello, ', 'world.txt': 'world', sub: { deep: 'saved' } }))
    const inMemory: AttachDevice = (host) => host.virtio.attach(new Fs({ tag: 'two', fileSystem: tree() }))
    const devices = [share('one', path), inMemory] as const
    const before = await start(devices)
    before.type(
      'mkdir /m /js; mount -t virtiofs one /m && mount -t virtiofs two /js; cd /m/dir; exec 3<big 4>../log 5<../removed 6<../swapped',
      'dd bs=10 count=1 <&3 2>/dev/null; echo; echo before >&4; exec 7</js/world.txt; cat /js/hello.txt; echo ready',
    )
    await before.until(/^hello, ready\n/m)
    await before.vm.pause()
    await writeSnapshot(snapshotPath, {
      state: stateToJson(await before.vm.state()),
      memory: before.vm.memory,
    })
    before.vm.stop('saved')
    await before.ended
    expect(before.warnings).toEqual([])

    rmSync(join(path, 'removed'))
    rmSync(join(path, 'swapped'))
    symlinkSync(secret, join(path, 'swapped'))
    const snapshot = Snapshot.open(snapshotPath)
    const after = await LinuxVm.restore(stateFromJson(snapshot.state), snapshot.mapMemory(), { devices })
    snapshot.close()
    after.type(
      'echo "rest $(md5sum <&3)"; echo after >&4; cat ../log; cat <&5; cat <&6; cat /m/swapped /m/removed',
      'echo "hello, $(cat <&7) $(cat /js/sub/deep)"; echo new > new; poweroff',
    )
    expect((await after.ended).kind).toBe('reset')
    expect(after.warnings).toEqual([])
    expect(before.output).toContain(`\n${big.toString('latin1', 0, 10)}\n`)
    const { output } = after
    expect(output).toContain(`rest ${createHash('md5').update(big.subarray(10)).digest('hex')}`)
    expect(output).toMatch(/^before\nafter\n(?:cat: read error: Stale file handle\n){2}/m)
    expect(output).toContain("can't open '/m/swapped': No such file or directory")
    expect(output).not.toContain('SECRET')
    expect(output).toMatch(/^hello, world saved$/m)
    expect(readFileSync(join(path, 'log'), 'latin1')).toBe('before\nafter\n')
    expect(readFileSync(join(path, 'dir/new'), 'latin1')).toBe('new\n')
  })

  test('a tree that exists only in JavaScript is read, and one of objects is written', async () => {
    const big = Buffer.alloc(300_000, 'many bytes, ')
    let asked = 0
    const tree = memoryTree({
      'hello.txt': 'hello from JavaScript\n',
      link: new MemoryLink('sub/made'),
      sub: {
        made: async () => {
          asked += 1
          return `made for call ${asked > 0}\n`
        },
        big,
      },
    })
    const files = new Map<string, { bytes: Buffer }>()
    const noFile = { bytes: Buffer.alloc(0) }
    const objects: UserTreeSource<object> = {
      root: files,
      lookup: (_directory, name) => files.get(name),
      stat: async (node) =>
        node === files
          ? { type: 'directory' }
          : { type: 'file', size: ((node as typeof noFile).bytes ?? noFile.bytes).length },
      readdir: () => files.keys(),
      read: (file, target, position) => (file as typeof noFile).bytes.copy(target, 0, position),
      write: (file, source, position) => {
        const one = file as typeof noFile
        const bytes = Buffer.alloc(Math.max(one.bytes.length, position + source.length))
        one.bytes.copy(bytes)
        bytes.set(source, position)
        one.bytes = bytes
      },
      change: (file, { size }) => {
        const one = file as typeof noFile
        if (size !== undefined) one.bytes = Buffer.concat([one.bytes.subarray(0, size)], size)
      },
      create: (_directory, name) => {
        const file = { bytes: Buffer.alloc(0) }
        files.set(name, file)
        return file
      },
      remove: (_directory, name) => files.delete(name),
    }
    const attach =
      (tag: string, fileSystem: () => ConstructorParameters<typeof Fs>[0]['fileSystem']): AttachDevice =>
      (host) =>
        host.virtio.attach(new Fs({ tag, fileSystem: fileSystem() }), {
          hostFailure: (error) => host.warn(String(error)),
        })
    const { output } = await run(
      [attach('one', () => new UserTree(tree)), attach('two', () => new UserTree(objects))],
      [
        'mkdir /js /o; mount -t virtiofs one /js && mount -t virtiofs two /o; cd /o',
        'cat /js/hello.txt /js/link; echo "names $(ls /js /js/sub)"; echo "big $(md5sum < /js/sub/big)"',
        'echo x > /js/x; cat /js/none',
        'echo one > a; echo two >> a; echo longer > b; echo short > b; echo gone > c; rm c; echo "a $(cat a)"',
      ],
    )
    expect(output).toMatch(/^hello from JavaScript\nmade for call true$/m)
    expect(output).toMatch(/^names \/js:\nhello.txt\nlink\nsub\n\n\/js\/sub:\nbig\nmade$/m)
    expect(output).toContain(`big ${createHash('md5').update(big).digest('hex')}`)
    expect(output).toContain("can't create /js/x: Read-only file system")
    expect(output).toContain("can't open '/js/none': No such file or directory")
    expect(output).toMatch(/^a one\ntwo$/m)
    expect([...files].map(([name, { bytes }]) => [name, bytes.toString()])).toEqual([
      ['a', 'one\ntwo\n'],
      ['b', 'short\n'],
    ])
  })
})
