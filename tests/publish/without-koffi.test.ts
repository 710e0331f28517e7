/**
 * Packages that are plain TypeScript, in a project without koffi and the package that loads it: their own tests pass there, on
 * the sources that they are published with. Tests of random attacks are left out: they take minutes, and load nothing that
 * the others don't.
 */
import { execFile } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { members, packPackages, root } from '../support/tarballs.ts'
import { Project } from './project.ts'

const run = promisify(execFile)
const NATIVE: readonly string[] = ['koffi', '@vmm/sys-util']
/** Packages whose tests are run. */
const PLAIN: readonly string[] = [
  '@vmm/virtio-queue',
  '@vmm/linux-loader',
  '@vmm/devices',
  '@vmm/vsock',
  '@vmm/x86-completion',
]
/** Packages that are native in one entry alone. */
const NATIVE_ENTRY: Readonly<Record<string, string>> = { '@vmm/vm-memory': 'mmap', '@vmm/net': 'tap' }
/** What they take on no host: then they are ended. */
const TESTS_MS = 280_000
/** What the tests use. */
const TEST_TOOLS: readonly string[] = ['vitest', 'fast-check']

/** What vitest reports, as far as it is looked at. */
interface Report {
  readonly testResults: readonly {
    readonly name: string
    readonly message: string
    readonly assertionResults: readonly { readonly failureMessages: readonly string[] }[]
  }[]
}

const tarballOf = packPackages()
const folder = mkdtempSync(join(tmpdir(), 'vmm-plain-'))
const project = new Project(join(folder, 'project'))
const modules = join(project.folder, 'node_modules')

beforeAll(async () => {
  const all = members.map(({ manifest }) => tarballOf(manifest.name))
  await project.install([...PLAIN, ...Object.keys(NATIVE_ENTRY)].map(tarballOf), all)
})
afterAll(() => rmSync(folder, { recursive: true }))

test('nothing native is installed', () => {
  expect(project.installed.filter((name) => NATIVE.includes(name))).toEqual([])
})

test.each(Object.entries(NATIVE_ENTRY))('%s works without its entry %s', async (name, entry) => {
  const script = `
    console.log(Object.keys(await import('${name}')).length > 0)
    await import('${name}/${entry}').catch((error) => console.log(error.code, error.message.includes('@vmm/sys-util')))
  `
  const args = ['--input-type=module', '--eval', script]
  const { stdout } = await run(process.execPath, args, { cwd: project.folder })
  expect(stdout).toBe('true\nERR_MODULE_NOT_FOUND true\n')
})

test('their tests pass', async () => {
  for (const tool of TEST_TOOLS)
    symlinkSync(realpathSync(join(root, 'node_modules', tool)), join(modules, tool))
  for (const { directory, manifest } of members.filter((member) => PLAIN.includes(member.manifest.name))) {
    cpSync(join(root, directory, 'test'), join(modules, manifest.name, 'test'), { recursive: true })
  }
  const config = {
    include: ['node_modules/@vmm/*/test/**/*.test.ts'],
    exclude: ['**/*hostile*'],
    testTimeout: TESTS_MS,
    setupFiles: [join(root, 'tests', 'support', 'property-tests.ts')],
    // Their sources are TypeScript: not for Node.js to load.
    server: { deps: { inline: true } },
  }
  const results = join(folder, 'results.json')
  project.write('vitest.config.mjs', `export default { test: ${JSON.stringify(config)} }`)
  const options = ['run', '--reporter=json', `--outputFile=${results}`, '--maxWorkers=2']
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  await run(process.execPath, [vitest, ...options], { cwd: project.folder, timeout: TESTS_MS }).catch(
    () => {},
  )
  const report: Report = JSON.parse(readFileSync(results, 'utf8'))
  const failures = report.testResults.flatMap(({ name, message, assertionResults }) =>
    [message, ...assertionResults.flatMap(({ failureMessages }) => failureMessages)]
      .filter((text) => text !== '')
      .map((text) => `${name}: ${text}`),
  )
  expect(failures).toEqual([])
  const tested = (name: string) => report.testResults.some((file) => file.name.includes(`/${name}/test/`))
  expect(PLAIN.filter((name) => !tested(name))).toEqual([])
})
