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

/** Runs the module `main` of some, in a process of its own, and returns what it printed. All have the package's beside them. */
function run(modules: Readonly<Record<string, string>>, nodeOptions: readonly string[] = []): string {
  const parent = join(root, 'node_modules', '.test')
  mkdirSync(parent, { recursive: true })
  const directory = mkdtempSync(join(parent, 'child-'))
  try {
    transpileSources(directory)
    writeFileSync(join(directory, 'package.json'), '{ "type": "module" }')
    for (const [name, text] of Object.entries(modules)) writeFileSync(join(directory, `${name}.js`), text)
    return execFileSync(process.execPath, [...nodeOptions, join(directory, 'main.js')], { encoding: 'utf8' })
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const withExports = (program: string): string =>
  `import * as all from './index.js'\nObject.assign(globalThis, all)\n${program}`

/**
 * Runs a program that has the package's exports in scope, and returns what it printed.
 * @throws Error where the program fails
 */
export function runInChild(program: string, nodeOptions: readonly string[] = []): string {
  return run({ main: withExports(program) }, nodeOptions)
}

/**
 * Runs programs one after another, each in a worker, and returns what they printed and how each worker ended. No other thread of the
 * process knows of the package.
 * @throws Error where the process fails
 */
export function runInWorkers(programs: Readonly<Record<string, string>>): string {
  const names = Object.keys(programs)
  const main = `
    import { Worker } from 'node:worker_threads'
    for (const name of ${JSON.stringify(names)}) {
      await new Promise((resolve) => {
        const worker = new Worker(new URL(\`./\${name}.js\`, import.meta.url))
        worker.on('error', ({ message }) => console.log(\`\${name}: error \${message}\`))
        worker.on('exit', (code) => resolve(console.log(\`\${name}: exit \${code}\`)))
      })
    }`
  const modules = Object.entries(programs).map(([name, program]) => [name, withExports(program)])
  return run({ ...Object.fromEntries(modules), main })
}
