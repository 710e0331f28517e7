/**
 * TypeScript as JavaScript, for tests in workers and processes of their own: those know nothing of vitest's.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'tsup'

/** Modules that were built. */
export interface Bundle {
  /** Has each of them as NAME.js. */
  readonly folder: string
  remove(): void
}

/**
 * Builds modules, with all of this project's packages inside and koffi outside.
 * @param home the package, or the root, in whose node_modules they are: what is outside is found from there
 * @param entry sources by name
 */
export async function bundle(home: string, entry: Record<string, string>): Promise<Bundle> {
  const folder = mkdtempSync(join(home, 'node_modules', 'test-'))
  await build({
    entry,
    outDir: folder,
    config: false,
    format: 'esm',
    target: 'node20',
    noExternal: [/^@vmm\//],
    external: ['koffi'],
    esbuildOptions: (options) => {
      options.conditions = ['@vmm/source']
    },
    outExtension: () => ({ js: '.js' }),
    silent: true,
  })
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) }
}
