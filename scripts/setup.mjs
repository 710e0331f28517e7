/**
 * Everything between a fresh clone and a VM: dependencies, build, guest. A step is skipped while its inputs are,
 * by hash, what they were when it last ended well.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The root of the checkout. */
export const root = fileURLToPath(new URL('..', import.meta.url))
const cache = join(root, '.cache')
const stamps = join(cache, 'setup')
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** A failure that has been said in one sentence: no stack trace is owed. */
export class SetupError extends Error {}

function checkHost() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new SetupError(`this runs on Linux on x86-64, not on ${process.platform} on ${process.arch}`)
  }
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new SetupError(`Node.js 20.19 or newer is needed, this is ${process.versions.node}`)
  }
}

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
}

/** The folders of packages that are built. */
function members() {
  return ['packages', 'examples'].flatMap((group) =>
    readdirSync(join(root, group), { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && existsSync(join(root, group, entry.name, 'tsup.config.ts')))
      .map((entry) => join(root, group, entry.name)),
  )
}

function hash(files) {
  const sum = createHash('sha256').update(process.versions.node)
  for (const file of files.sort()) sum.update(file).update('\0').update(readFileSync(file)).update('\0')
  return sum.digest('hex')
}

/** Runs a command, its output into a log; shows the log's end where it fails. */
function run(command, args, log) {
  const out = openSync(log, 'w')
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', out, out] })
    child.on('error', reject)
    child.on('close', (code, signal) => {
      closeSync(out)
      if (code === 0) return resolve()
      const tail = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-15).join('\n')
      reject(
        new SetupError(
          `${tail}\n${command} ${args.join(' ')} ended with ${signal ?? code}; all of it: ${log}`,
        ),
      )
    })
  })
}

async function step(label, name, inputs, outputs, work) {
  const stamp = join(stamps, name)
  const sum = hash(inputs())
  const done = outputs.every((file) => existsSync(file))
  if (done && existsSync(stamp) && readFileSync(stamp, 'utf8') === sum) return
  const start = performance.now()
  process.stderr.write(`${label} ... `)
  try {
    await work(join(stamps, `${name}.log`))
  } catch (error) {
    process.stderr.write('failed\n')
    throw error
  }
  writeFileSync(stamp, sum)
  process.stderr.write(`${((performance.now() - start) / 1000).toFixed(1)} s\n`)
}

const pnpm = (args, log) => run('npx', ['--yes', manifest.packageManager, ...args], log)

/**
 * Does what is not done yet. Progress goes to stderr; the second time it takes a moment.
 * @param {object} [options]
 * @param {boolean} [options.guest] whether the guest is needed; default true
 * @param {boolean} [options.rebuild] whether packages are built that have not changed; default false
 */
export async function setUp({ guest = true, rebuild = false } = {}) {
  checkHost()
  mkdirSync(stamps, { recursive: true })
  if (rebuild) rmSync(join(stamps, 'build'), { force: true })
  const folders = members()
  const outputs = folders.map((folder) => join(folder, 'dist'))
  await step(
    'Installing dependencies',
    'dependencies',
    () => [join(root, 'package.json'), join(root, 'pnpm-lock.yaml'), join(root, 'pnpm-workspace.yaml')],
    [join(root, 'node_modules', '.modules.yaml')],
    (log) => pnpm(['install', '--frozen-lockfile'], log),
  )
  await step(
    'Building packages',
    'build',
    () => [
      join(root, 'tsconfig.base.json'),
      join(root, 'tsup.base.ts'),
      join(root, 'pnpm-lock.yaml'),
      ...folders.flatMap((folder) => [
        join(folder, 'package.json'),
        join(folder, 'tsup.config.ts'),
        ...filesBelow(join(folder, 'src')),
      ]),
    ],
    outputs,
    (log) =>
      pnpm(['--recursive', '--filter', './packages/*', '--filter', './examples/*', 'run', 'build'], log),
  )
  if (!guest) return
  const { buildGuest, GuestBuildError } = await import('../guest/build.mjs')
  try {
    await buildGuest()
  } catch (error) {
    throw error instanceof GuestBuildError ? new SetupError(error.message) : error
  }
}

/** Runs a script's main function; a failure that has been said in one sentence gets no stack trace. */
export async function main(body) {
  try {
    process.exitCode = await body()
  } catch (error) {
    process.stderr.write(`${error instanceof SetupError ? error.message : error.stack}\n`)
    process.exitCode = 1
  }
}

/** Runs a command with this process's terminal and gives its exit status. */
export function runInTerminal(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: 'inherit' })
    // The terminal sends Ctrl-C to both; what it means is the child's to say.
    const relay = (signal) => child.kill(signal)
    process
      .on('SIGINT', () => {})
      .on('SIGTERM', relay)
      .on('SIGHUP', relay)
    child.on('error', reject)
    child.on('close', (code, signal) => {
      resolve(code ?? (signal === 'SIGINT' ? 130 : 1))
    })
  })
}
