/**
 * `@vmm/vm-memory/on-demand` as JavaScript: its workers know nothing of vitest's TypeScript.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { UserFaultFd } from '@vmm/sys-util'
import { build } from 'tsup'
import type * as OnDemand from '../src/on-demand.ts'

const PACKAGE = join(import.meta.dirname, '..')

function skipReason(): string {
  try {
    new UserFaultFd().close()
    return ''
  } catch (error) {
    return 'CI' in process.env ? '' : ` (skipped: ${(error as Error).message})`
  }
}

/** Why tests of memory on demand are skipped, for their title; empty where they are not. With CI set they fail instead. */
export const noUserFaultFd: string = skipReason()

/** Builds it into a folder of its own, with sys-util inside and koffi outside. @returns it, and what removes the folder */
export async function bundleOnDemand(): Promise<{
  module: typeof OnDemand
  url: string
  remove: () => void
}> {
  const outDir = mkdtempSync(join(PACKAGE, 'node_modules', 'test-'))
  await build({
    entry: {
      'on-demand': join(PACKAGE, 'src', 'on-demand.ts'),
      'fault-thread': join(PACKAGE, 'src', 'on-demand', 'fault-thread.ts'),
      'provider-thread': join(PACKAGE, 'src', 'on-demand', 'provider-thread.ts'),
    },
    outDir,
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
  const url = pathToFileURL(join(outDir, 'on-demand.js')).href
  return { module: await import(url), url, remove: () => rmSync(outDir, { recursive: true, force: true }) }
}
