/**
 * Programs over the sources of this package and of sys-util in a process of their own: for what lets a process end.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'

const root = join(import.meta.dirname, '..')

/** Node 20 runs no TypeScript. */
function transpile(source: string, target: string): void {
  mkdirSync(target, { recursive: true })
  writeFileSync(join(target, 'package.json'), '{ "type": "module", "exports": "./index.js" }')
  const compilerOptions = {
    module: ts.ModuleKind.ESNext,
    target: ts.ScriptTarget.ES2022,
    rewriteRelativeImportExtensions: true,
  }
  for (const name of readdirSync(source)) {
    const text = readFileSync(join(source, name), 'utf8')
    const { outputText } = ts.transpileModule(text, { compilerOptions, fileName: name })
    writeFileSync(join(target, name.replace(/ts$/, 'js')), outputText)
  }
}

/**
 * Runs a program that has the exports of both packages in scope, and returns what it printed.
 * @throws Error where the program fails
 */
export function runInChild(program: string): string {
  const parent = join(root, 'node_modules', '.test')
  mkdirSync(parent, { recursive: true })
  const directory = mkdtempSync(join(parent, 'child-'))
  try {
    for (const name of ['event-manager', 'sys-util']) {
      transpile(join(root, '..', name, 'src'), join(directory, 'node_modules', '@vmm', name))
    }
    const main = join(directory, 'main.mjs')
    const imports = `import * as events from '@vmm/event-manager'\nimport * as sys from '@vmm/sys-util'\n`
    writeFileSync(main, `${imports}Object.assign(globalThis, events, sys)\n${program}`)
    return execFileSync(process.execPath, [main], { encoding: 'utf8' })
  } finally {
    rmSync(directory, { recursive: true })
  }
}
