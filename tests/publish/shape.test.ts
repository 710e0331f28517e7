/**
 * The packed tarballs: what is in them, what their package.json says, and what publint and arethetypeswrong find.
 *
 * The packages are ES modules only. On every Node.js that they run on `require` of an ES module works, and is what a CommonJS
 * project does; arethetypeswrong's profile for such packages ignores resolution by node10, which knows no `exports`, and by
 * node16 from CommonJS.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { describe, expect, test } from 'vitest'
import { entriesOf, members, packPackages, root } from '../support/tarballs.ts'
import { packagesImported } from './imports.ts'

const tarballOf = packPackages()
const ROOT_MANIFEST = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** The most that a tarball may weigh, in KiB: some third more than it did when this was written. */
const KIB: Readonly<Record<string, number>> = {
  '@vmm/block': 50,
  '@vmm/devices': 460,
  '@vmm/event-manager': 20,
  '@vmm/kvm-ioctls': 170,
  '@vmm/linux-loader': 110,
  '@vmm/microvm': 70,
  '@vmm/net': 60,
  '@vmm/shared-dir': 50,
  '@vmm/snapshot': 40,
  '@vmm/sys-util': 100,
  '@vmm/virtio-queue': 100,
  '@vmm/vm-memory': 85,
  '@vmm/vsock': 20,
  '@vmm/x86-completion': 110,
  'example-vmm': 900,
}

/** What arethetypeswrong finds in packages that are ES modules alone, and that is as it should be. */
const ESM_ONLY: readonly string[] = ['node10', 'node16-cjs']

/** Files beside dist and src. CHANGELOG.md comes with the first release: changesets writes it. */
const TOP_LEVEL = /^(README\.md|LICENSE|CHANGELOG\.md|package\.json)$/
const LIBRARY_FILE = /^(dist\/[\w-]+\.(js|js\.map|d\.ts)|src\/[\w/-]+(\.d)?\.ts)$/
const PROGRAM_FILE = /^(dist\/index\.cjs(\.map)?|bin\/[\w-]+\.cjs)$/

describe.each(members)('$manifest.name, packed', ({ directory, manifest: { name } }) => {
  const isLibrary = directory.startsWith('packages/')

  test('has nothing that publint would say', async () => {
    const { path } = tarballOf(name)
    const { buffer } = Uint8Array.from(readFileSync(path))
    const { messages, pkg } = await publint({ pack: { tarball: buffer }, strict: true })
    expect(messages.map((message) => formatMessage(message, pkg, { color: false }))).toEqual([])
  })

  if (isLibrary) {
    test('has types that are right wherever it can be imported', async () => {
      const tarball = createPackageFromTarballData(readFileSync(tarballOf(name).path))
      const result = await checkPackage(tarball, { excludeEntrypoints: ['./package.json'] })
      if (!result.types) throw new Error('there are no types')
      const wrong = result.problems.filter(
        (problem) => !('resolutionKind' in problem && ESM_ONLY.includes(problem.resolutionKind)),
      )
      expect(wrong).toEqual([])
      expect(Object.keys(result.entrypoints)).toEqual(entriesOf(tarballOf(name).manifest))
    })

    test('has the sources that its source maps name, once', () => {
      const { files, folder } = tarballOf(name)
      for (const file of files.filter((path) => path.endsWith('.map'))) {
        const { sources, sourcesContent } = JSON.parse(readFileSync(join(folder, file), 'utf8'))
        expect(sourcesContent).toBeUndefined()
        expect(sources.filter((source: string) => !existsSync(join(folder, dirname(file), source)))).toEqual(
          [],
        )
      }
    })
  }

  test('has its README, its licence, its code, and nothing else', () => {
    const { files } = tarballOf(name)
    expect(files).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'package.json']))
    const code = isLibrary ? LIBRARY_FILE : PROGRAM_FILE
    expect(files.filter((file) => !TOP_LEVEL.test(file) && !code.test(file))).toEqual([])
    expect(files.filter((file) => code.test(file))).not.toEqual([])
  })

  test('is no larger than it was thought to be', () => {
    const kib = statSync(tarballOf(name).path).size / 1024
    expect(kib).toBeLessThan(KIB[name] ?? 0)
  })

  test('says what it is, and where and under which terms it runs', () => {
    const { manifest } = tarballOf(name)
    expect(manifest).toMatchObject({
      type: 'module',
      license: ROOT_MANIFEST.license,
      engines: ROOT_MANIFEST.engines,
      description: expect.stringMatching(/^\S.{20,110}[^.]$/),
      files: isLibrary ? ['CHANGELOG.md', 'dist', 'src'] : ['CHANGELOG.md', 'bin', 'dist'],
    })
    expect(manifest['sideEffects']).toBe(isLibrary ? false : undefined)
    expect(manifest['keywords']).toEqual(expect.arrayContaining(['vmm']))
    // The root has the repository's address, when there is one; packages add where in it they are.
    const repository = ROOT_MANIFEST.repository && { ...ROOT_MANIFEST.repository, directory }
    expect(manifest['repository']).toEqual(repository)
    expect(manifest['scripts']).not.toHaveProperty('postinstall')
  })

  test('imports what it depends on, and depends on what it imports', () => {
    const { dependencies, optionalDependencies, peerDependencies } = tarballOf(name).manifest
    const declared = Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })
    const imported = packagesImported(tarballOf(name))
    expect(declared).toEqual(expect.arrayContaining([...imported]))
    // What one of its packages has as an optional peer is for this package to bring, imported or not.
    const manifestOf = (other: string) => members.find(({ manifest }) => manifest.name === other)?.manifest
    const peers = [...imported].flatMap((other) => Object.keys(manifestOf(other)?.peerDependencies ?? {}))
    expect([...imported, ...peers]).toEqual(expect.arrayContaining(declared))
  })
})
