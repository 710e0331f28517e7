/**
 * Guests that have booted once, and are gone on with as often as tests want them: a boot takes seconds where guest kernels are
 * interpreted, and a restore milliseconds. What is saved is good for as long as neither the guest nor the VMM changes.
 *
 * Disks may have other contents when the guest goes on. It has read them for partitions, but Linux forgets what it read of a disk
 * when the last closes it (block/bdev.c, blkdev_flush_mapping). A disk that is mounted stays as it was.
 */
import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { lockFile } from '@vmm/sys-util'
import { commandLine } from '../../guest/cmdline.mjs'
import { guestFile } from './example-vmm.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const SAVED = guestFile('saved')
const LOOK_AGAIN_MS = 100
const ALSO = ['examples/example-vmm/dist', 'tests/support'].map((path) => join(root, path))
const KEEP_MS = 24 * 3600 * 1000

/** What a saved guest depends on beside its description: the guest's images, the VMM as it is and as it is built, and how it is saved. */
let inputs: string | undefined

function inputsHash(): string {
  const hash = createHash('sha256')
    .update(readFileSync(guestFile('stamp.json')))
    .update(commandLine())
  const members = ['packages', 'examples'].flatMap((folder) =>
    readdirSync(join(root, folder)).map((name) => join(root, folder, name, 'src')),
  )
  for (const sources of [...members, ...ALSO].sort()) {
    if (!existsSync(sources)) continue
    for (const file of readdirSync(sources, { recursive: true, encoding: 'utf8' }).sort()) {
      const path = join(sources, file)
      if (statSync(path).isFile()) hash.update(`${path.slice(root.length)}\n`).update(readFileSync(path))
    }
  }
  return hash.digest('hex').slice(0, 16)
}

/**
 * The folder of a saved guest, which is booted and saved by whoever first asks for it.
 * @param description what it is: all that makes it another
 * @param save boots it, and writes a snapshot into a folder
 */
export async function savedLinux(
  description: unknown,
  save: (folder: string) => Promise<void>,
): Promise<string> {
  inputs ??= inputsHash()
  const own = createHash('sha256').update(JSON.stringify(description)).digest('hex').slice(0, 16)
  const folder = join(SAVED, `${inputs}-${own}`)
  mkdirSync(SAVED, { recursive: true })
  const lock = openSync(`${folder}.lock`, 'a')
  try {
    // Other test files are other processes.
    while (!lockFile(lock, true)) await sleep(LOOK_AGAIN_MS)
    if (!existsSync(join(folder, 'manifest.json'))) {
      removeOld()
      await save(folder)
    }
    return folder
  } finally {
    closeSync(lock)
  }
}

/** Those that were made of other sources, and not today. */
function removeOld(): void {
  for (const name of readdirSync(SAVED)) {
    const path = join(SAVED, name)
    const isOld = !name.startsWith(`${inputs}-`) && Date.now() - statSync(path).mtimeMs > KEEP_MS
    if (isOld) rmSync(path, { recursive: true, force: true })
  }
}
