// Builds the test guest into .cache/guest/: vmlinux and bzImage (Debian's kernel source, microvm.config,
// the patches), initramfs.cpio (init.c alone), busybox.cpio (init.c and Debian's busybox) and programs.cpio (these and
// the programs of programs/).
//
//   node guest/build.mjs        builds what is out of date; well under a second when nothing is
//
// Cached by a hash of the inputs. The results are replaced only when all of them are there, so a build
// that is killed leaves the last good one. The kernel's object files are kept: a changed option
// recompiles what depends on it. Builds that are started side by side wait for each other.

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { copyFile, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cpioArchive, directory, file, symlink } from './cpio.mjs'

const SOURCES = fileURLToPath(new URL('.', import.meta.url))
const OUTPUT = fileURLToPath(new URL('../.cache/guest/', import.meta.url))
const WORK = join(OUTPUT, 'work')
const STAMP = join(OUTPUT, 'stamp.json')
const LOG = join(OUTPUT, 'build.log')

const KERNEL_PACKAGE = 'linux-source-6.1'
const KERNEL_TARBALL = `/usr/src/${KERNEL_PACKAGE}.tar.xz`
const BUSYBOX_PACKAGE = 'busybox-static'
const BUSYBOX = '/bin/busybox'
const COMPILER_PACKAGE = 'gcc'
const LIBC_PACKAGE = 'musl-tools'
const PACKAGES = [
  KERNEL_PACKAGE,
  BUSYBOX_PACKAGE,
  COMPILER_PACKAGE,
  LIBC_PACKAGE,
  ...['bc', 'bison', 'flex', 'libc6-dev', 'libelf-dev', 'lz4', 'make', 'patch', 'xz-utils'],
]

const PATCHES = ['pvm-syscall.patch', 'boot-time.patch', 'acpi-without-pci.patch']
const INPUT_FILES = ['build.mjs', 'cpio.mjs', 'init.c', 'microvm.config', ...PATCHES]
const PROGRAMS = join(SOURCES, 'programs')
const RESULTS = ['vmlinux', 'bzImage', 'System.map', 'initramfs.cpio', 'busybox.cpio', 'programs.cpio']

// Most of the tree, which this kernel cannot use. Kconfig files stay: others include them.
const UNUSED_SOURCES = [
  '*/Documentation/*/*',
  '*/arch/*/boot/dts/*',
  '*/tools/testing/*',
  ...['arm', 'arm64', 'ia64', 'm68k', 'mips', 'parisc', 'powerpc', 'riscv', 's390', 'sh', 'sparc'].map(
    (name) => `*/arch/${name}/*.[chS]`,
  ),
  ...['gpu', 'infiniband', 'media', 'net/ethernet', 'net/wireless', 'scsi', 'staging', 'usb'].map(
    (name) => `*/drivers/${name}/*.[ch]`,
  ),
  '*/sound/*.[ch]',
]

// The kernel's version line names whoever built it: make it the same everywhere.
const KERNEL_IDENTITY = { KBUILD_BUILD_USER: 'vmm', KBUILD_BUILD_HOST: 'guest', KBUILD_BUILD_VERSION: '1' }

// GCC clears memory with `rep stosb` in code that it takes for cold, as it does __init functions. An
// interpreter does that byte by byte, and eight bytes in the same time.
const KERNEL_FLAGS = '-mstringop-strategy=rep_8byte'

// One small segment without what a C library or a debugger wants: see init.c.
const INIT_FLAGS = [
  ...['-Os', '-static', '-nostdlib', '-ffreestanding', '-fno-pic', '-no-pie', '-fno-stack-protector'],
  ...['-fno-asynchronous-unwind-tables', '-fcf-protection=none', '-Wall', '-Wextra', '-Werror'],
  '-Wl,--build-id=none,-z,noseparate-code,-z,norelro,--strip-all',
]

// Small static programs; musl-gcc looks for no headers of the kernel by itself.
const PROGRAM_FLAGS = [
  ...['-Os', '-static', '-Wall', '-Wextra', '-Werror', '-Wl,--build-id=none,-z,noseparate-code,--strip-all'],
  ...['-idirafter', '/usr/include', '-idirafter', '/usr/include/x86_64-linux-gnu'],
]

/** A failure that is told in its message alone: no stack trace helps the reader. */
export class GuestBuildError extends Error {
  name = 'GuestBuildError'
}

/**
 * Brings .cache/guest/ up to date.
 *
 * @param {object} [options]
 * @param {(line: string) => void} [options.log] gets the progress, some lines for a build and none when nothing is to be
 *   done. Default: standard error, where one line is rewritten if that is a terminal.
 * @returns {Promise<Record<'vmlinux' | 'bzImage' | 'initramfs' | 'busybox' | 'programs' | 'systemMap', string>>} the paths
 * @throws {GuestBuildError} when a package is missing and cannot be installed, or a step fails
 */
export async function buildGuest({ log } = {}) {
  if (!(await isUpToDate())) {
    await mkdir(WORK, { recursive: true })
    const unlock = await lock(log)
    try {
      if (!(await isUpToDate())) await build(new Progress(6, log))
    } finally {
      unlock()
    }
  }
  const [vmlinux, bzImage, systemMap, initramfs, busybox, programs] = RESULTS.map((name) =>
    join(OUTPUT, name),
  )
  return { vmlinux, bzImage, systemMap, initramfs, busybox, programs }
}

async function build(progress) {
  await rm(LOG, { force: true })
  await progress.step('packages', () => installPackages())
  const tree = await progress.step('unpacking the kernel source', () => unpackKernel())
  await progress.step('configuring the kernel', () => configureKernel(tree))
  await progress.step('compiling the kernel (minutes, the first time)', (count) => compileKernel(tree, count))

  const next = join(OUTPUT, 'next')
  await rm(next, { recursive: true, force: true })
  await mkdir(next)
  const programs = await programSources()
  await progress.step('compiling init and the programs', async () => {
    await run('gcc', [...INIT_FLAGS, '-o', join(next, 'init'), join(SOURCES, 'init.c')])
    for (const name of programs)
      await run('musl-gcc', [...PROGRAM_FLAGS, '-o', join(next, name), join(PROGRAMS, `${name}.c`)])
  })
  await progress.step('writing the images', async () => {
    // A loader needs the segments and the PVH note; symbols go to System.map.
    await run('objcopy', ['--strip-all', join(tree, 'vmlinux'), join(next, 'vmlinux')])
    await copyFile(join(tree, 'arch/x86/boot/bzImage'), join(next, 'bzImage'))
    await copyFile(join(tree, 'System.map'), join(next, 'System.map'))
    const init = file('init', await readFile(join(next, 'init')), 0o755)
    await writeFile(join(next, 'initramfs.cpio'), cpioArchive([init]))
    const shell = [init, ...(await busyboxEntries())]
    await writeFile(join(next, 'busybox.cpio'), cpioArchive(shell))
    for (const name of programs) shell.push(file(`bin/${name}`, await readFile(join(next, name)), 0o755))
    await writeFile(join(next, 'programs.cpio'), cpioArchive(shell))
    await publish(next)
  })
}

// --- The cache ---

/** Names of the C files of programs/, without their ending. */
async function programSources() {
  const names = await readdir(PROGRAMS).catch(() => [])
  return names
    .filter((name) => name.endsWith('.c'))
    .map((name) => name.slice(0, -2))
    .sort()
}

async function inputHash() {
  const hash = createHash('sha256')
  const programs = (await programSources()).map((name) => join('programs', `${name}.c`))
  for (const name of [...INPUT_FILES, ...programs]) {
    const content = await readFile(join(SOURCES, name))
    hash.update(`${name} ${content.length}\n`).update(content)
  }
  return hash.digest('hex')
}

async function isUpToDate() {
  const stamp = await readFile(STAMP, 'utf8').then(JSON.parse, () => undefined)
  if (stamp?.inputs !== (await inputHash())) return false
  for (const name of RESULTS) {
    const size = await stat(join(OUTPUT, name)).then(
      (found) => found.size,
      () => undefined,
    )
    if (size === undefined || size !== stamp.sizes?.[name]) return false
  }
  // A package that is not there cannot be newer: a cache that was carried to a bare machine is good.
  const installed = await installedVersions()
  return Object.entries(stamp.versions).every(
    ([name, version]) => (installed.get(name) ?? version) === version,
  )
}

/** Moves the results to their places. Without its stamp a half-moved set is out of date. */
async function publish(next) {
  const versions = await installedVersions()
  const stamp = { inputs: await inputHash(), versions: {}, sizes: {} }
  for (const name of [KERNEL_PACKAGE, BUSYBOX_PACKAGE, COMPILER_PACKAGE, LIBC_PACKAGE])
    stamp.versions[name] = versions.get(name)
  for (const name of RESULTS) stamp.sizes[name] = (await stat(join(next, name))).size
  await writeFile(join(next, 'stamp.json'), JSON.stringify(stamp, null, 2))
  await rm(STAMP, { force: true })
  for (const name of [...RESULTS, 'stamp.json']) await rename(join(next, name), join(OUTPUT, name))
  await rm(next, { recursive: true })
}

/** Holds a lock that the operating system drops with this process, however that ends. */
async function lock(log) {
  const holder = spawn('flock', [join(OUTPUT, 'lock'), 'sh', '-c', 'echo locked; exec cat'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const failed = once(holder, 'error').then(() => {
    throw new GuestBuildError('the guest build needs flock, of the package util-linux')
  })
  const notice = setTimeout(() => say(log, 'waiting for another build of the guest to end'), 500)
  await Promise.race([once(holder.stdout, 'data'), failed])
  clearTimeout(notice)
  return () => holder.stdin.end()
}

// --- The steps ---

/** Versions of those of PACKAGES that are installed. */
async function installedVersions() {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query fills it in
  const format = '${db:Status-Status} ${Package} ${Version}\n'
  const { output } = await capture('dpkg-query', ['--show', `--showformat=${format}`, ...PACKAGES])
  const rows = output.split('\n').map((row) => row.split(' '))
  return new Map(
    rows.filter(([status]) => status === 'installed').map(([, name, version]) => [name, version]),
  )
}

async function installPackages() {
  const installed = await installedVersions()
  const missing = PACKAGES.filter((name) => !installed.has(name))
  if (missing.length === 0) return
  const hasApt = (await capture('apt-get', ['--version'])).status === 0
  if (process.getuid() !== 0 || !hasApt) {
    throw new GuestBuildError(
      `building the guest takes Debian packages that are not installed, and ${
        hasApt ? 'only root can install them' : 'there is no apt-get here to install them'
      }: ${missing.join(' ')}`,
    )
  }
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  await run('apt-get', ['update'], { env })
  await run('apt-get', ['install', '--yes', '--no-install-recommends', ...missing], { env })
}

/** The patched source tree: an earlier build's, with its object files, where source and patches are the same. */
async function unpackKernel() {
  const version = (await installedVersions()).get(KERNEL_PACKAGE)
  const hash = createHash('sha256').update(`${version} ${UNUSED_SOURCES}\n`)
  for (const name of PATCHES) hash.update(await readFile(join(SOURCES, name)))
  const tree = join(WORK, `linux-${hash.digest('hex').slice(0, 12)}`)

  for (const name of await readdir(WORK)) {
    if (name !== basename(tree)) await rm(join(WORK, name), { recursive: true, force: true })
  }
  if (await stat(tree).catch(() => undefined)) return tree

  const unpacking = join(WORK, 'unpacking')
  await mkdir(unpacking)
  const exclude = UNUSED_SOURCES.map((pattern) => `--exclude=${pattern}`)
  await run('tar', ['-xf', KERNEL_TARBALL, '--strip-components=1', ...exclude], { cwd: unpacking })
  for (const name of PATCHES) {
    await run('patch', ['-p1', '--forward', `--input=${join(SOURCES, name)}`], { cwd: unpacking })
  }
  await rename(unpacking, tree)
  return tree
}

async function configureKernel(tree) {
  const fragment = join(SOURCES, 'microvm.config')
  await run('make', ['tinyconfig'], { cwd: tree })
  await run('scripts/kconfig/merge_config.sh', ['-m', '.config', fragment], { cwd: tree })
  await run('make', ['olddefconfig'], { cwd: tree })

  const lost = lostOptions(await readFile(fragment, 'utf8'), await readFile(join(tree, '.config'), 'utf8'))
  if (lost.length > 0) {
    throw new GuestBuildError(
      `this kernel source does not do what microvm.config asks for: ${lost.join(', ')}`,
    )
  }
}

/** The lines of a configuration fragment that a whole configuration contradicts. */
function lostOptions(fragment, whole) {
  const value = (text) => /^(?:# )?(CONFIG_\w+)(?:=(.*)| is not set)$/.exec(text)
  const found = new Map(whole.split('\n').flatMap((text) => (value(text) ? [value(text).slice(1)] : [])))
  return fragment.split('\n').filter((text) => {
    const wanted = value(text)
    return wanted && wanted[2] !== found.get(wanted[1])
  })
}

async function compileKernel(tree, count) {
  const { mtime } = await stat(KERNEL_TARBALL)
  const env = { ...KERNEL_IDENTITY, KBUILD_BUILD_TIMESTAMP: mtime.toUTCString() }
  const args = [`-j${availableParallelism()}`, `KCFLAGS=${KERNEL_FLAGS}`, 'vmlinux', 'bzImage']
  await run('make', args, { cwd: tree, env, onLine: count })
}

/** What a person at the console finds besides /init. Applets need no links: this shell has them built in. */
async function busyboxEntries() {
  return [
    ...['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp'].map((path) => directory(path)),
    file('bin/busybox', await readFile(BUSYBOX), 0o755),
    symlink('bin/sh', 'busybox'),
    file('etc/passwd', 'root::0:0:root:/root:/bin/sh\n'),
    file('etc/group', 'root:x:0:\n'),
    file('etc/shrc', "PS1='\\w # '\n"),
  ]
}

// --- Processes and progress ---

/** Runs a command with its output in the log; a failure quotes the log's end. */
async function run(command, args, { cwd, env, onLine } = {}) {
  const log = createWriteStream(LOG, { flags: 'a' })
  log.write(`$ ${[command, ...args].join(' ')}\n`)
  const child = spawn(command, args, { cwd, env: childEnvironment(env), stdio: ['ignore', 'pipe', 'pipe'] })
  const killChild = () => child.kill()
  process.once('exit', killChild)
  child.stdout.on('data', (chunk) => onLine?.(chunk.toString().split('\n').length - 1))
  for (const stream of [child.stdout, child.stderr]) stream.pipe(log, { end: false })

  const [status, signal] = await once(child, 'close').catch((error) => [error.message])
  process.off('exit', killChild)
  log.end()
  await once(log, 'close')
  if (status !== 0) {
    const tail = (await readFile(LOG, 'utf8')).trimEnd().split('\n').slice(-15).join('\n')
    throw new GuestBuildError(`${command} failed (${status ?? signal}). The end of ${LOG}:\n${tail}`)
  }
}

async function capture(command, args) {
  const child = spawn(command, args, { env: childEnvironment(), stdio: ['ignore', 'pipe', 'ignore'] })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  const [status] = await once(child, 'close').catch(() => [127])
  return { status, output }
}

/** Messages in English, and no settings of a surrounding make or kernel build. */
function childEnvironment(more) {
  const { MAKEFLAGS: _flags, MAKELEVEL: _level, KCFLAGS: _more, ...rest } = process.env
  return { ...rest, LC_ALL: 'C', ...more }
}

function say(log, text) {
  if (log) log(text)
  else process.stderr.write(`${text}\n`)
}

/** One line a step: rewritten each second on a terminal, repeated each half minute elsewhere. */
class Progress {
  #total
  #log
  #current = 0

  constructor(total, log) {
    this.#total = total
    this.#log = log
  }

  /** Runs the work, which may count files as they are done. */
  async step(title, work) {
    this.#current++
    const start = performance.now()
    const isTerminal = !this.#log && process.stderr.isTTY
    let files = 0
    const text = () => {
      const seconds = Math.round((performance.now() - start) / 1000)
      return `[${this.#current}/${this.#total}] ${title} ... ${seconds} s${files > 0 ? `, ${files} files` : ''}`
    }
    const show = () => (isTerminal ? process.stderr.write(`\r${text()}`) : say(this.#log, text()))
    const timer = setInterval(show, isTerminal ? 1000 : 30_000)
    try {
      return await work((lines) => {
        files += lines
      })
    } finally {
      clearInterval(timer)
      show()
      if (isTerminal) process.stderr.write('\n')
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [signal, number] of [
    ['SIGINT', 2],
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ]) {
    process.once(signal, () => process.exit(128 + number))
  }
  try {
    await buildGuest()
  } catch (error) {
    const isToldByItsMessage = error instanceof GuestBuildError || error.syscall !== undefined
    if (!isToldByItsMessage) throw error
    process.stderr.write(`${error.message}\n`)
    process.exitCode = 1
  }
}
