/**
 * Programs over this package's sources in a process of their own: for what ends a process, or must not.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'

const root = join(import.meta.dirname, '..')

/** Node 20 runs no TypeScript. Inside the package, so that the output finds what the sources import. */
function transpileSources(directory: string): void {
  const compilerOptions = {
    module: ts.ModuleKind.ESNext,
    target: ts.ScriptTarget.ES2022,
    rewriteRelativeImportExtensions: true,
  }
  for (const name of readdirSync(join(root, 'src'))) {
    const source = readFileSync(join(root, 'src', name), 'utf8')
    const { outputText } = ts.transpileModule(source, { compilerOptions, fileName: name })
    writeFileSync(join(directory, name.replace(/ts$/, 'js')), outputText)
  }
}

/**
 * Runs a program that has the package's exports in scope, and returns what it printed.
 * @throws Error where the program fails
 */
export function runInChild(program: string, nodeOptions: readonly string[] = []): string {
  const parent = join(root, 'node_modules', '.test')
  mkdirSync(parent, { recursive: true })
  const directory = mkdtempSync(join(parent, 'child-'))
  try {
    transpileSources(directory)
    writeFileSync(join(directory, 'package.json'), '{ "type": "module" }')
    const main = join(directory, 'main.js')
    writeFileSync(main, `import * as all from './index.js'\nObject.assign(globalThis, all)\n${program}`)
    return execFileSync(process.execPath, [...nodeOptions, main], { encoding: 'utf8' })
  } finally {
    rmSync(directory, { recursive: true })
  }
}
