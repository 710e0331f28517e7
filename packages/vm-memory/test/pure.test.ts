/**
 * The root entry point needs nothing but Node.js: whatever it reaches imports no native code.
 */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

function importsOf(file: URL, seen: Map<string, string[]> = new Map()): Map<string, string[]> {
  if (seen.has(file.href)) return seen
  const names = [
    ...readFileSync(file, 'utf8').matchAll(/^(?:import|export) .*?from '([^']+)'|^} from '([^']+)'/gm),
  ].map((match) => match[1] ?? match[2] ?? '')
  seen.set(file.href, names)
  for (const name of names) if (name.startsWith('.')) importsOf(new URL(name, file), seen)
  return seen
}

test('the root entry imports node: modules alone, and ./mmap sys-util besides', () => {
  const outside = (entry: string) => {
    const names = [...importsOf(new URL(`../src/${entry}`, import.meta.url)).values()].flat()
    return [...new Set(names.filter((name) => !name.startsWith('.')))].sort()
  }
  expect(outside('index.ts')).toEqual(['node:fs'])
  expect(outside('mmap.ts')).toEqual(['@vmm/sys-util', 'node:fs'])
})
