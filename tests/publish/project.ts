/**
 * A project of somebody who installs a package: an empty folder, what `npm install` puts there, the compiler, a program.
 */
import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import ts from 'typescript'
import { root, type Tarball } from '../support/tarballs.ts'

const run = promisify(execFile)

/** An empty project with packages from their tarballs alone. */
export class Project {
  readonly folder: string

  /** @param folder where; it is made */
  constructor(folder: string) {
    mkdirSync(folder)
    this.folder = folder
  }

  /**
   * Installs packages.
   * @param wanted those that the project names
   * @param all where npm finds those that these depend on
   */
  async install(wanted: readonly Tarball[], all: readonly Tarball[]): Promise<void> {
    const files = (tarballs: readonly Tarball[]) =>
      Object.fromEntries(tarballs.map(({ name, path }) => [name, `file:${path}`]))
    const manifest = { private: true, type: 'module', dependencies: files(wanted), overrides: files(all) }
    this.write('package.json', JSON.stringify(manifest))
    const install = ['install', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error']
    await run('npm', install, { cwd: this.folder })
  }

  /** Names of all packages that were installed. */
  get installed(): string[] {
    const modules = join(this.folder, 'node_modules')
    return readdirSync(modules)
      .filter((name) => !name.startsWith('.'))
      .flatMap((name) =>
        name.startsWith('@') ? readdirSync(join(modules, name)).map((part) => `${name}/${part}`) : name,
      )
      .sort()
  }

  /** Writes a file of the project. */
  write(name: string, text: string): void {
    writeFileSync(join(this.folder, name), text)
  }

  /** What the compiler says of files of the project, with nothing let off: declarations of packages are checked, too. */
  typeErrors(names: readonly string[], resolution: Resolution): string[] {
    const options: ts.CompilerOptions = {
      ...RESOLUTIONS[resolution],
      target: ts.ScriptTarget.ES2023,
      lib: ['lib.es2023.d.ts'],
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      noEmit: true,
      allowJs: true,
      checkJs: true,
      // What whoever writes for Node.js has anyway: the oldest that is supported.
      types: ['node'],
      typeRoots: [join(root, 'node_modules', '@types')],
    }
    const host = ts.createCompilerHost(options)
    host.getSourceFile = cached(host.getSourceFile)
    const program = ts.createProgram(
      names.map((name) => join(this.folder, name)),
      options,
      host,
    )
    return ts.getPreEmitDiagnostics(program).map(({ file, start = 0, messageText }) => {
      const line = file === undefined ? 0 : file.getLineAndCharacterOfPosition(start).line + 1
      return `${file?.fileName}:${line}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
    })
  }
}

/** How a project's compiler finds modules. */
export type Resolution = 'nodenext' | 'bundler'

const RESOLUTIONS: Readonly<Record<Resolution, ts.CompilerOptions>> = {
  nodenext: { module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext },
  bundler: { module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler },
}

type GetSourceFile = ts.CompilerHost['getSourceFile']
const librariesRead = new Map<string, ts.SourceFile | undefined>()

/** Reads the compiler's own declarations and those of Node.js once for all projects. */
function cached(getSourceFile: GetSourceFile): GetSourceFile {
  return (path, how, ...rest) => {
    if (!path.startsWith(root)) return getSourceFile(path, how, ...rest)
    const format = typeof how === 'object' ? how.impliedNodeFormat : how
    const key = `${path} ${format}`
    if (!librariesRead.has(key)) librariesRead.set(key, getSourceFile(path, how, ...rest))
    return librariesRead.get(key)
  }
}
