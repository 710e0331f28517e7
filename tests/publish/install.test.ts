/**
 * Every package as somebody has it who installs it with npm into an empty project: nothing is there that it does not need,
 * all of its entries can be imported, with types, and the program that its README begins with runs as it is shown.
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { guestFile } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { NODE_VERSIONS, nodeBinary } from '../support/node-versions.ts'
import { firstProgram, linesFound } from '../support/readme.ts'
import { entriesOf, type Manifest, members, packPackages, root, type Tarball } from '../support/tarballs.ts'
import { packageOf, specifiersOf } from './imports.ts'
import { Project, type Resolution } from './project.ts'

const run = promisify(execFile)
/** Installations at a time: they wait for the disk as often as they compute. */
const INSTALLATIONS = 3
/** What no program of a README takes, on the busiest of hosts. */
const PROGRAM_MS = 240_000
const RESOLUTIONS: readonly Resolution[] = ['nodenext', 'bundler']
/** Files that a README's program may find where it runs. */
const GUEST_FILES: readonly string[] = ['vmlinux', 'initramfs.cpio']
/** The README's program, in its project. */
const PROGRAM = 'readme.js'
/** Packages whose programs run virtual CPUs. */
const NEED_KVM: readonly string[] = ['@vmm/kvm-ioctls', '@vmm/microvm']

/** Packages whose programs are no TypeScript: this one's CPU has just what a single instruction asks for. */
const UNTYPED: readonly string[] = ['@vmm/x86-completion']

const tarballOf = packPackages()
const folder = mkdtempSync(join(tmpdir(), 'vmm-projects-'))
const projects = new Map<string, Project>()
const libraries = members.filter(({ directory }) => directory.startsWith('packages/'))

const siblingsIn = (names: Iterable<string>) =>
  [...names].filter((name) => members.some(({ manifest }) => manifest.name === name))

/** The packages of this repository that a project gets which installs these. */
function closure(wanted: readonly Tarball[]): string[] {
  const found = new Set(wanted.map(({ name }) => name))
  for (const name of found) {
    for (const dependency of siblingsIn(Object.keys(tarballOf(name).manifest.dependencies ?? {}))) {
      found.add(dependency)
    }
  }
  return [...found].sort()
}

const readmeOf = (directory: string) => readFileSync(join(root, directory, 'README.md'), 'utf8')

/** What a reader of a package's README installs: the package, its peers, what else the program imports. */
function wantedBy({ name, peerDependencies = {} }: Manifest, directory: string): Tarball[] {
  const isLibrary = directory.startsWith('packages/')
  const imported = isLibrary ? specifiersOf(firstProgram(readmeOf(directory)).text).map(packageOf) : []
  return siblingsIn(new Set([name, ...Object.keys(peerDependencies), ...imported])).map(tarballOf)
}

const projectOf = (name: string): Project => {
  const project = projects.get(name)
  if (project === undefined) throw new Error(`there is no project with ${name}`)
  return project
}

beforeAll(async () => {
  const all = members.map(({ manifest }) => tarballOf(manifest.name))
  const queue = [...members]
  const installer = async () => {
    for (let member = queue.shift(); member !== undefined; member = queue.shift()) {
      const { directory, manifest } = member
      const project = new Project(join(folder, manifest.name.replace('@vmm/', '')))
      await project.install(wantedBy(manifest, directory), all)
      projects.set(manifest.name, project)
    }
  }
  await Promise.all([...Array.from({ length: INSTALLATIONS }, installer), ...NODE_VERSIONS.map(nodeBinary)])
})

afterAll(() => rmSync(folder, { recursive: true }))

/** A folder to run a program in, with what programs of READMEs expect to find. */
function workingFolder(project: Project, version: string): string {
  const path = join(project.folder, `on-${version}`)
  mkdirSync(path, { recursive: true })
  for (const file of GUEST_FILES.filter((name) => !existsSync(join(path, name)))) {
    symlinkSync(guestFile(file), join(path, file))
  }
  return path
}

/** What a program of a project prints on a version of Node.js. @throws Error where it fails */
async function output(project: Project, version: string, ...args: readonly string[]): Promise<string> {
  const cwd = workingFolder(project, version)
  const limits = { timeout: PROGRAM_MS, killSignal: 'SIGKILL' } as const
  const { stdout, stderr } = await run(await nodeBinary(version), args, { cwd, ...limits })
  expect(stderr).toBe('')
  return stdout
}

describe.each(members)('$manifest.name, installed', ({ directory, manifest: { name } }) => {
  test('brings what it needs, and nothing else', () => {
    const wanted = wantedBy(tarballOf(name).manifest, directory)
    const { installed } = projectOf(name)
    expect(siblingsIn(installed)).toEqual(closure(wanted))
    const needsKoffi = closure(wanted).some(
      (other) => 'koffi' in (tarballOf(other).manifest.dependencies ?? {}),
    )
    expect(installed.includes('koffi')).toBe(needsKoffi)
  })
})

describe.each(libraries)('$manifest.name, installed', ({ directory, manifest: { name } }) => {
  test.each(RESOLUTIONS)('has types for all that it exports (%s)', (resolution) => {
    const project = projectOf(name)
    const entries = entriesOf(tarballOf(name).manifest).map((entry) => join(name, entry))
    project.write('entries.ts', entries.map((entry) => `export * from '${entry}'`).join('\n'))
    expect(project.typeErrors(['entries.ts'], resolution)).toEqual([])
  })

  test.concurrent.each(NODE_VERSIONS)('can be imported on Node.js %s', async (version) => {
    const entries = entriesOf(tarballOf(name).manifest).map((entry) => join(name, entry))
    const imports = entries.map((entry) => `console.log(Object.keys(await import('${entry}')).length)`)
    const script = ['--input-type=module', '--eval', imports.join('\n')]
    const counts = (await output(projectOf(name), version, ...script)).trim().split('\n').map(Number)
    expect(counts).toHaveLength(entries.length)
    expect(Math.min(...counts)).toBeGreaterThan(0)
  })

  const program = firstProgram(readmeOf(directory))
  if (!UNTYPED.includes(name)) {
    test("its README's program has types that are right", () => {
      projectOf(name).write(PROGRAM, program.text)
      expect(projectOf(name).typeErrors([PROGRAM], 'nodenext')).toEqual([])
    })
  }

  const imports = specifiersOf(program.text).map(packageOf)
  const needsKvm = NEED_KVM.some((other) => imports.includes(other))
  const describeProgram = needsKvm ? describeWithKvm : describe
  describeProgram("its README's program", () => {
    // Guests have the CPUs for themselves.
    const testProgram = needsKvm ? test : test.concurrent
    testProgram.each(NODE_VERSIONS)('runs on Node.js %s, and prints what it says', async (version) => {
      projectOf(name).write(PROGRAM, program.text)
      const path = join(projectOf(name).folder, PROGRAM)
      expect(linesFound(program.prints, await output(projectOf(name), version, path))).toEqual(program.prints)
    })
  })
})

describeWithKvm('example-vmm, installed', () => {
  test.each([NODE_VERSIONS[0], NODE_VERSIONS.at(-1)])('boots Linux on Node.js %s', async (version = '') => {
    const project = projectOf('example-vmm')
    const binary = join(project.folder, 'node_modules', '.bin', 'example-vmm')
    const { commandLine } = await import('../../guest/cmdline.mjs')
    const guest = ['--kernel', 'vmlinux', '--initrd', 'initramfs.cpio', '--memory', '64']
    const printed = await output(project, version, binary, 'run', ...guest, '--cmdline', commandLine())
    expect(printed).toContain('Linux')
  })
})
