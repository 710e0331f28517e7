/**
 * This package as JavaScript, for tests in workers and processes of their own.
 */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll } from 'vitest'
import { type Bundle, bundle as build } from '../../../tests/support/bundle.ts'

const PACKAGE = join(import.meta.dirname, '..')

const built: Bundle[] = []
// Here, and not where they are built: in a hook it is too late for another.
afterAll(() => {
  for (const { remove } of built) remove()
})

/**
 * Builds a module, which lasts as long as the test file, and gives its URL.
 * @param entry default this package
 */
export async function bundle(entry: string = join(PACKAGE, 'src', 'index.ts')): Promise<string> {
  const one = await build(PACKAGE, { index: entry })
  built.push(one)
  return pathToFileURL(join(one.folder, 'index.js')).href
}
