/** Programs of Debian's that tests and benches call. */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { SetupError } from './setup.mjs'

/**
 * Installs the packages of those programs that are not there.
 * @param {Record<string, string>} tools the package of each path
 * @throws SetupError where a tool is missing and cannot be installed here
 */
export function installTools(tools) {
  const missing = Object.keys(tools).filter((path) => !existsSync(path))
  if (missing.length === 0) return
  const packages = [...new Set(missing.map((path) => tools[path]))]
  process.stderr.write(`Installing ${packages.join(' and ')} ...\n`)
  const options = { stdio: 'ignore', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } }
  try {
    execFileSync('apt-get', ['update'], options)
    execFileSync('apt-get', ['install', '--yes', '--no-install-recommends', ...packages], options)
  } catch {
    throw new SetupError(`Debian's ${packages.join(' and ')} cannot be installed here: do that as root`)
  }
}
