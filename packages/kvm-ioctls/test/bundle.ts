/**
 * This package as JavaScript, for tests in workers and processes of their own: those know nothing of vitest's TypeScript.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'tsup'
import { afterAll } from 'vitest'

const PACKAGE = join(import.meta.dirname, '..')

/** A directory below the package, which lasts as long as the test file. */
function workDirectory(): string {
  const directory = mkdtempSync(join(PACKAGE, 'node_modules', 'test-'))
  afterAll(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/**
 * Builds a module, with this package and sys-util inside and koffi outside, and gives its URL.
 * @param entry default this package
 */
export async function bundle(entry: string = join(PACKAGE, 'src', 'index.ts')): Promise<string> {
  const outDir = workDirectory()
  await build({
    entry: { index: entry },
    outDir,
    config: false,
    format: 'esm',
    target: 'node20',
    noExternal: [/^@vmm\//],
    external: ['koffi'],
    esbuildOptions: (options) => {
      options.conditions = ['@vmm/source']
    },
    outExtension: () => ({ js: '.mjs' }),
    silent: true,
  })
  return pathToFileURL(join(outDir, 'index.mjs')).href
}
