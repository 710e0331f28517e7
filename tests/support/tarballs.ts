/**
 * The packages as npm would serve them: what `pnpm pack` makes of the build, and what is in it.
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll } from 'vitest'

/** The root of the checkout. */
export const root: string = fileURLToPath(new URL('../..', import.meta.url))
const run = promisify(execFile)

/** A package.json, as far as tests look at it. */
export interface Manifest {
  readonly name: string
  readonly version: string
  readonly private?: boolean
  readonly exports?: Readonly<Record<string, string | Readonly<Record<string, string>>>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly [field: string]: unknown
}

/** A package of this repository that is published. */
export interface Member {
  /** Where its sources are, from the root: `packages/block`. */
  readonly directory: string
  readonly manifest: Manifest
}

/** A package that was packed. */
export interface Tarball {
  readonly name: string
  /** The .tgz file. */
  readonly path: string
  /** The folder it was unpacked to. */
  readonly folder: string
  /** The package.json that is published. */
  readonly manifest: Manifest
  /** Paths of all files in it, from `folder`. */
  readonly files: readonly string[]
}

const readManifest = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))

/** All packages that are published. */
export const members: readonly Member[] = ['packages', 'examples']
  .flatMap((group) => readdirSync(join(root, group)).map((folder) => join(group, folder)))
  .filter((directory) => existsSync(join(root, directory, 'package.json')))
  .map((directory) => ({ directory, manifest: readManifest(join(root, directory)) }))
  .filter(({ manifest }) => manifest.private !== true)

/** The entries of a package that are code: '.', './testing'. */
export function entriesOf(manifest: Manifest): string[] {
  return Object.keys(manifest.exports ?? {}).filter((entry) => entry !== './package.json')
}

async function unpack(path: string): Promise<Tarball> {
  const folder = join(path, '..', basename(path, '.tgz'))
  mkdirSync(folder)
  await run('tar', ['--extract', '--file', path, '--directory', folder, '--strip-components=1'])
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => statSync(join(folder, file)).isFile())
    .sort()
  const manifest = readManifest(folder)
  return { name: manifest.name, path, folder, manifest, files }
}

/** Packs what was built into a folder. */
async function packInto(folder: string): Promise<Tarball[]> {
  const unbuilt = members.filter(({ directory }) => !existsSync(join(root, directory, 'dist')))
  if (unbuilt.length > 0) {
    throw new Error(`not built: ${unbuilt.map(({ directory }) => directory).join(', ')}; npm run build`)
  }
  const { packageManager } = readManifest(root)
  const filters = members.flatMap(({ manifest }) => ['--filter', manifest.name])
  const pack = ['--recursive', ...filters, 'pack', '--pack-destination', folder]
  await run('npx', ['--yes', String(packageManager), ...pack], { cwd: root })
  const paths = readdirSync(folder).map((file) => join(folder, file))
  return Promise.all(paths.map(unpack))
}

/** Packs every package before a file's tests; all of it is gone after them. @returns what gives a package's tarball */
export function packPackages(): (name: string) => Tarball {
  const folder = mkdtempSync(join(tmpdir(), 'vmm-tarballs-'))
  let tarballs: Tarball[] = []
  beforeAll(async () => {
    tarballs = await packInto(folder)
  })
  afterAll(() => rmSync(folder, { recursive: true }))
  return (name) => {
    const tarball = tarballs.find((candidate) => candidate.name === name)
    if (tarball === undefined) throw new Error(`${name} was not packed`)
    return tarball
  }
}
