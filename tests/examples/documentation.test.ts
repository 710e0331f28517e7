/**
 * Code in documentation has right types: each snippet is a module that imports what it names of the packages. Names that a
 * snippet takes for granted have the types below, or any.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'
import { docSnippets, readmeSnippets, root, type Snippet } from './documentation.ts'

/** What snippets take for granted. */
const CONTEXT: Readonly<Record<string, string>> = {
  memory: "import('@vmm/vm-memory').GuestMemory",
  mapped: "import('@vmm/vm-memory/mmap').MappedMemory",
  kernel: "import('@vmm/linux-loader').LoadedKernel",
  interrupt: "import('@vmm/devices').Interrupt",
  irq1: "import('@vmm/devices').Interrupt",
  irq4: "import('@vmm/devices').Interrupt",
  irq8: "import('@vmm/devices').Interrupt",
  pio: "import('@vmm/devices').Bus",
  mmio: "import('@vmm/devices').Bus",
  serial: "import('@vmm/devices').Serial",
  slot: "import('@vmm/devices/virtio').MmioSlot",
  slots: "import('@vmm/devices/virtio').MmioSlots",
  port: "import('@vmm/devices/virtio').ConsolePort",
  receiver: "import('@vmm/devices/virtio').NetReceiver",
  vcpu: "import('@vmm/kvm-ioctls').Vcpu",
  cmdline: "import('@vmm/linux-loader').Cmdline",
  cpuidEntries: "import('@vmm/kvm-ioctls').CpuidEntry[]",
  cpuContext: "import('@vmm/x86-completion').CpuContext",
  iovec: "import('@vmm/sys-util').IoVector",
  registers: "import('@vmm/virtio-queue').VirtqueueRegisters",
}

const EXAMPLES = join(root, 'examples/small')

const OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2023,
  lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  customConditions: ['@vmm/source'],
  types: ['node'],
  strict: true,
  // Snippets leave types out, and say in a line what takes three.
  noImplicitAny: false,
  allowImportingTsExtensions: true,
  allowJs: true,
  checkJs: true,
  noEmit: true,
  skipLibCheck: true,
}
/** What TypeScript says of a name that nothing declares, or just as a type. */
const UNDECLARED: ReadonlySet<number> = new Set([2304, 2552, 2503, 2693, 18004])
/** And of a `return` in a snippet that is a part of a function. */
const RETURN_OUTSIDE = 1108

/** The entries of all packages, and what each exports. */
function exportsOfPackages(): Map<string, string> {
  const entries = readdirSync(join(root, 'packages')).flatMap((name) => {
    const { exports } = JSON.parse(readFileSync(join(root, 'packages', name, 'package.json'), 'utf8'))
    const codes = Object.entries<{ '@vmm/source'?: string }>(exports).filter(
      ([, target]) => target['@vmm/source'],
    )
    return codes.map(([entry]) => `@vmm/${name}${entry.slice(1)}`)
  })
  const path = join(root, 'tests/examples/entries.snippet.ts')
  const text = entries.map((entry, i) => `import * as e${i} from '${entry}'`).join('\n')
  const program = programOf(new Map([[path, text]]))
  const checker = program.getTypeChecker()
  const found = new Map<string, string>()
  const declarations = program.getSourceFile(path)?.statements.filter(ts.isImportDeclaration) ?? []
  for (const [i, { moduleSpecifier }] of declarations.entries()) {
    const symbol = checker.getSymbolAtLocation(moduleSpecifier)
    for (const exported of symbol ? checker.getExportsOfModule(symbol) : []) {
      const { name, flags } = exported
      const meant = flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported
      // Some packages have a type, for what they ask for, by the name of the class of another.
      if (!found.has(name) || meant.flags & ts.SymbolFlags.Class) found.set(name, entries[i] ?? '')
    }
  }
  return found
}

/** A program of files that are not there, beside those that are. */
function programOf(files: ReadonlyMap<string, string>, old?: ts.Program): ts.Program {
  const host = ts.createCompilerHost(OPTIONS)
  const { getSourceFile, fileExists, readFile } = host
  host.fileExists = (path) => files.has(path) || fileExists(path)
  host.readFile = (path) => files.get(path) ?? readFile(path)
  host.getSourceFile = (path, ...rest) => {
    const text = files.get(path)
    return text === undefined
      ? (old?.getSourceFile(path) ?? getSourceFile(path, ...rest))
      : ts.createSourceFile(path, text, rest[0])
  }
  const libraries = join(root, 'packages/linux-loader/src/decompress/libraries.d.ts')
  const roots = [...files.keys(), ...(existsSync(libraries) ? [libraries] : [])]
  return ts.createProgram(roots, OPTIONS, host, old)
}

test('examples/small, and snippets of READMEs and of TSDoc, have right types', () => {
  const snippets: readonly Snippet[] = [...readmeSnippets(), ...docSnippets()]
  expect(snippets.length).toBeGreaterThan(50)
  const known = exportsOfPackages()
  const pathOf = (index: number) => join(root, `tests/examples/${index}.snippet.ts`)

  const bare = new Map(snippets.map(({ code }, i) => [pathOf(i), `export {};${code}`]))
  const first = programOf(bare)
  const files = new Map(
    snippets.map(({ code }, i) => {
      const missing = new Set<string>()
      for (const { code: error, start = 0, length = 0, file } of first.getSemanticDiagnostics(
        first.getSourceFile(pathOf(i)),
      )) {
        if (UNDECLARED.has(error) && file) missing.add(file.text.slice(start, start + length))
      }
      const prelude = [...missing].map((name) => {
        const entry = known.get(name)
        return entry === undefined
          ? `declare const ${name}: ${CONTEXT[name] ?? 'any'};`
          : `import { ${name} } from '${entry}';`
      })
      return [pathOf(i), `export {};${prelude.join('')}${code}`]
    }),
  )
  const examples = readdirSync(EXAMPLES).filter((file) => file.endsWith('.js'))
  for (const name of examples) files.set(join(EXAMPLES, name), readFileSync(join(EXAMPLES, name), 'utf8'))
  const second = programOf(files, first)
  const places = [...snippets.map(({ place }) => place), ...examples]
  const wrong = [...files.keys()].flatMap((path, i) => {
    const place = places[i]
    const file = second.getSourceFile(path)
    const all = [...second.getSyntacticDiagnostics(file), ...second.getSemanticDiagnostics(file)]
    const counted = all.filter(({ code }) => code !== RETURN_OUTSIDE)
    return counted.map(({ messageText, start = 0 }) => {
      const line = (file?.getLineAndCharacterOfPosition(start).line ?? 0) + 1
      return `${place}, line ${line}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`
    })
  })
  expect(wrong).toEqual([])
})
