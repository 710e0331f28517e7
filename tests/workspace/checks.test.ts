/**
 * What a compiler and a linter say of the whole tree, and the order of its layers.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** What a tool of the workspace prints, where it complains; else nothing. */
async function complaints(tool: string, ...args: string[]): Promise<string> {
  try {
    await promisify(execFile)(`${root}/node_modules/.bin/${tool}`, args, { cwd: root })
    return ''
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string }
    return `${stdout ?? error}${stderr ?? ''}`
  }
}

test('types are right', async () => {
  expect(await complaints('tsc', '--noEmit')).toBe('')
})

test('style is kept', async () => {
  expect(await complaints('biome', 'check', '.')).toBe('')
})

test('no file, export or dependency is there for nothing', async () => {
  expect(await complaints('knip', '--no-progress')).toBe('')
})

test('all that is exported is documented, and links lead somewhere', async () => {
  expect(await complaints('typedoc', '--emit', 'none', '--logLevel', 'Warn')).toBe('')
})

/** What changesets plans for a package. */
interface Release {
  readonly type: string
  readonly newVersion: string
}

test('the next release gives all packages one version', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'vmm-release-')), 'plan.json')
  try {
    expect(await complaints('changeset', 'status', `--output=${relative(root, file)}`)).toBe('')
    const { releases } = JSON.parse(readFileSync(file, 'utf8'))
    const versions = (releases as Release[])
      .filter(({ type }) => type !== 'none')
      .map((next) => next.newVersion)
    // Before 1.0.0 what breaks users is a minor release.
    const { version } = JSON.parse(readFileSync(`${root}/packages/sys-util/package.json`, 'utf8'))
    if (version.startsWith('0.')) expect(versions.filter((next) => !next.startsWith('0.'))).toEqual([])
    expect(new Set(versions).size).toBeLessThanOrEqual(1)
  } finally {
    rmSync(join(file, '..'), { recursive: true })
  }
})

/** What a package may depend on: those below it. Each stands alone but for these. */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  '@vmm/sys-util': [],
  '@vmm/vm-memory': ['@vmm/sys-util'],
  '@vmm/virtio-queue': [],
  '@vmm/linux-loader': [],
  '@vmm/x86-completion': [],
  '@vmm/kvm-ioctls': ['@vmm/sys-util'],
  '@vmm/event-manager': ['@vmm/sys-util'],
  '@vmm/devices': ['@vmm/virtio-queue', '@vmm/event-manager', '@vmm/vm-memory'],
  '@vmm/snapshot': ['@vmm/sys-util', '@vmm/vm-memory'],
  '@vmm/microvm': [
    '@vmm/devices',
    '@vmm/event-manager',
    '@vmm/kvm-ioctls',
    '@vmm/linux-loader',
    '@vmm/sys-util',
    '@vmm/vm-memory',
    '@vmm/x86-completion',
  ],
  '@vmm/vsock': [],
  '@vmm/block': ['@vmm/sys-util', '@vmm/devices', '@vmm/virtio-queue', '@vmm/vm-memory'],
  '@vmm/shared-dir': ['@vmm/sys-util', '@vmm/devices', '@vmm/vm-memory'],
  '@vmm/net': ['@vmm/sys-util', '@vmm/devices', '@vmm/virtio-queue', '@vmm/vm-memory'],
}

for (const folder of readdirSync(`${root}/packages`)) {
  const manifest = JSON.parse(readFileSync(`${root}/packages/${folder}/package.json`, 'utf8'))
  test(`${manifest.name} depends on layers below it alone`, () => {
    const { dependencies = {}, peerDependencies = {} } = manifest
    const siblings = Object.keys({ ...dependencies, ...peerDependencies }).filter((name) =>
      name.startsWith('@vmm/'),
    )
    expect(LAYERS).toHaveProperty([manifest.name])
    expect(LAYERS[manifest.name]).toEqual(expect.arrayContaining(siblings))
  })

  test(`only @vmm/sys-util loads koffi: ${manifest.name}`, () => {
    const { dependencies = {}, peerDependencies = {}, optionalDependencies = {} } = manifest
    const loads = 'koffi' in { ...dependencies, ...peerDependencies, ...optionalDependencies }
    expect(loads).toBe(manifest.name === '@vmm/sys-util')
  })
}
