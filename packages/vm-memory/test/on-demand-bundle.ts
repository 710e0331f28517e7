/**
 * `@vmm/vm-memory/on-demand` as JavaScript: its workers know nothing of vitest's TypeScript.
 */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { UserFaultFd } from '@vmm/sys-util'
import { bundle } from '../../../tests/support/bundle.ts'
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
  const { folder, remove } = await bundle(PACKAGE, {
    'on-demand': join(PACKAGE, 'src', 'on-demand.ts'),
    'fault-thread': join(PACKAGE, 'src', 'on-demand', 'fault-thread.ts'),
    'provider-thread': join(PACKAGE, 'src', 'on-demand', 'provider-thread.ts'),
  })
  const url = pathToFileURL(join(folder, 'on-demand.js')).href
  return { module: await import(url), url, remove }
}
