/**
 * What a published file imports.
 */
import { readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import ts from 'typescript'
import type { Tarball } from '../support/tarballs.ts'

/** The package of a module specifier: `@vmm/devices` of `@vmm/devices/virtio`. */
export const packageOf = (specifier: string): string =>
  specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')

/** The package whose types have a given package's, by TypeScript's rules. */
const typesOf = (name: string) => `@types/${name.replace('@', '').replace('/', '__')}`

/** Every module specifier in a text: static, dynamic, `require`, and of types. */
export function specifiersOf(text: string): string[] {
  const found = ts.preProcessFile(text, true, true)
  return [...found.importedFiles, ...found.typeReferenceDirectives].map(({ fileName }) => fileName)
}

/** Packages that the built files of a package import, itself and Node.js aside. */
export function packagesImported({ folder, files, name }: Tarball): Set<string> {
  const built = files.filter((file) => file.startsWith('dist/') && !file.endsWith('.map'))
  const specifiers = built.flatMap((file) => specifiersOf(readFileSync(join(folder, file), 'utf8')))
  const bare = specifiers.filter((specifier) => !specifier.startsWith('.') && !isBuiltin(specifier))
  return new Set(bare.map(packageOf).filter((other) => other !== name && other !== typesOf('node')))
}
