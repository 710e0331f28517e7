// Builds bare-metal guests: PVH ELFs of one C file and the runtime beside this file.
//
//   node guest/bare/build.mjs guest/bare/programs/hello.c     prints the path of the ELF, in .cache/guest/bare/
//
// The file's name has the hash of all that went into it: what is there is up to date, and nobody's build replaces what
// somebody else is running.

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const RUNTIME = fileURLToPath(new URL('runtime/', import.meta.url))
const OUTPUT = fileURLToPath(new URL('../../.cache/guest/bare/', import.meta.url))

const run = promisify(execFile)

// GCC's loop recognition would make memset call itself. The code is entered by its address, so that all of it is linked at
// fixed ones; the image is one segment that can be read, written and executed, and says so.
const FLAGS = [
  ...['-std=gnu11', '-O2', '-ffreestanding', '-nostdlib', '-static', '-mno-red-zone', '-fno-pic', '-no-pie'],
  ...[
    '-fno-stack-protector',
    '-fno-asynchronous-unwind-tables',
    '-fcf-protection=none',
    '-fno-strict-aliasing',
  ],
  ...['-fno-tree-loop-distribute-patterns', '-Wall', '-Wextra', '-Werror', '-I', RUNTIME],
  ...[
    '-T',
    join(RUNTIME, 'bare.ld'),
    '-Wl,--build-id=none,-z,noseparate-code,-z,norelro,--no-warn-rwx-segments',
  ],
]

/**
 * Compiles a program, unless that has been done: a tenth of a second. It may include headers that stand beside it.
 *
 * @param {string} program path of its C file, which has `program()` of `boot.h`
 * @returns {Promise<string>} the path of an ELF file with a PVH entry
 * @throws {Error} of gcc, which is not there or has something to say
 */
export async function buildBareGuest(program) {
  const names = (await readdir(RUNTIME)).sort()
  const hash = createHash('sha256').update(`${FLAGS.map((flag) => flag.replace(RUNTIME, ''))}\n`)
  const folder = dirname(program)
  const headers = (await readdir(folder)).filter((name) => name.endsWith('.h')).sort()
  const inputs = [
    program,
    ...headers.map((name) => join(folder, name)),
    ...names.map((name) => join(RUNTIME, name)),
  ]
  for (const path of inputs) {
    const content = await readFile(path)
    hash.update(`${basename(path)} ${content.length}\n`).update(content)
  }
  const name = `${basename(program, '.c')}-${hash.digest('hex').slice(0, 12)}.elf`
  const result = join(OUTPUT, name)
  if (existsSync(result)) return result

  await mkdir(OUTPUT, { recursive: true })
  const next = await mkdtemp(join(OUTPUT, 'next-'))
  try {
    const sources = names.filter((source) => /\.[cS]$/.test(source)).map((source) => join(RUNTIME, source))
    await run('gcc', [...FLAGS, '-o', join(next, name), ...sources, program])
    await rename(join(next, name), result)
  } finally {
    await rm(next, { recursive: true })
  }
  return result
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const program of process.argv.slice(2)) console.log(await buildBareGuest(program))
}
