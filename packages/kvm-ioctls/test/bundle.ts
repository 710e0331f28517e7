/**
 * This package as JavaScript, for tests in workers and processes of their own: those know nothing of vitest's TypeScript.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'tsup'
import { afterAll } from 'vitest'

const PACKAGE = join(import.meta.dirname, '..')

/** Builds this package and sys-util into one module that lasts as long as the test file; koffi stays outside. */
export async function bundle(): Promise<string> {
  const outDir = mkdtempSync(join(PACKAGE, 'node_modules', 'test-'))
  afterAll(() => rmSync(outDir, { recursive: true, force: true }))
  await build({
    entry: { index: join(PACKAGE, 'src', 'index.ts') },
    outDir,
    config: false,
    format: 'esm',
    target: 'node20',
    noExternal: ['@vmm/sys-util'],
    external: ['koffi'],
    esbuildOptions: (options) => {
      options.conditions = ['@vmm/source']
    },
    outExtension: () => ({ js: '.mjs' }),
    silent: true,
  })
  return pathToFileURL(join(outDir, 'index.mjs')).href
}
