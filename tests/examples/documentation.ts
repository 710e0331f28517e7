/**
 * Programs in documentation: fenced code of READMEs, and `@example`s of TSDoc, fenced or not.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The root of the checkout, without a slash at its end. */
export const root: string = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

/** A piece of code. */
export interface Snippet {
  /** Where it begins: `packages/block/README.md:7`. */
  readonly place: string
  readonly code: string
}

const FENCE = /^```ts\n(.*?)^```$/gms
const EXAMPLE = /^[ ]*\* @example\n((?:^[ ]*\*(?! @|\/).*\n)+)/gm

const lineOf = (text: string, index: number): number => text.slice(0, index).split('\n').length

const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file))

/** The blocks of TypeScript of all READMEs. Those of JavaScript are run. */
export function readmeSnippets(): Snippet[] {
  const folders = ['', ...readdirSync(join(root, 'packages')).map((name) => join('packages', name))]
  return folders.flatMap((folder) => {
    const path = join(root, folder, 'README.md')
    const text = readFileSync(path, 'utf8')
    return [...text.matchAll(FENCE)].map((match) => ({
      place: `${relative(root, path)}:${lineOf(text, match.index) + 1}`,
      code: match[1] ?? '',
    }))
  })
}

/** The examples in all packages' sources. */
export function docSnippets(): Snippet[] {
  const folders = readdirSync(join(root, 'packages')).map((name) => join(root, 'packages', name, 'src'))
  const files = folders.flatMap(filesBelow).filter((file) => file.endsWith('.ts'))
  return files.flatMap((path) => {
    const text = readFileSync(path, 'utf8')
    return [...text.matchAll(EXAMPLE)].map((match) => {
      const lines = (match[1] ?? '').split('\n').map((line) => line.replace(/^ *\* ?/, ''))
      return {
        place: `${relative(root, path)}:${lineOf(text, match.index)}`,
        code: lines.filter((line) => !line.startsWith('```')).join('\n'),
      }
    })
  })
}
