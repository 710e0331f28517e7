/**
 * Code in documentation has right types, and examples of TSDoc run: each snippet is a module that imports what it names of the
 * packages. Names that a snippet takes for granted have the types below, or any, and the values of tests/support/example-fixtures.mjs.
 */
import { execFile } from 'node:child_process'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { MicroVm, stateToJson } from '@vmm/microvm'
import { writeSnapshot } from '@vmm/snapshot'
import ts from 'typescript'
import { expect, test } from 'vitest'
import { buildBareGuest } from '../../guest/bare/build.mjs'
import { guestFile } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { describeInNamespace, ip } from '../support/namespace.ts'
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

/** Snippets, and what each does not declare. */
interface Checked {
  readonly snippets: readonly Snippet[]
  /** Of each. */
  readonly missing: readonly ReadonlySet<string>[]
  /** Which entry of the packages has a name. */
  readonly known: ReadonlyMap<string, string>
  readonly program: ts.Program
}

let checked: Checked | undefined

const pathOf = (index: number) => join(root, `tests/examples/${index}.snippet.ts`)

/** Those of TSDoc come first. */
function check(): Checked {
  if (checked !== undefined) return checked
  const snippets: readonly Snippet[] = [...docSnippets(), ...readmeSnippets()]
  const bare = new Map(snippets.map(({ code }, i) => [pathOf(i), `export {};${code}`]))
  const program = programOf(bare)
  const missing = snippets.map((_, i) => {
    const names = new Set<string>()
    for (const { code, start = 0, length = 0, file } of program.getSemanticDiagnostics(
      program.getSourceFile(pathOf(i)),
    )) {
      if (UNDECLARED.has(code) && file) names.add(file.text.slice(start, start + length))
    }
    return names
  })
  checked = { snippets, missing, known: exportsOfPackages(), program }
  return checked
}

test('examples/small, and snippets of READMEs and of TSDoc, have right types', () => {
  const { snippets, missing, known, program } = check()
  expect(snippets.length).toBeGreaterThan(50)
  const files = new Map(
    snippets.map(({ code }, i) => {
      const prelude = [...(missing[i] ?? [])].map((name) => {
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
  const second = programOf(files, program)
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

/** How examples end that ask a guest, which is not there. */
const ERRORS: Readonly<Record<string, string>> = {
  'virtio/vsock/vsock.ts': 'vsock: port 22 of the guest: the guest has no driver for the device yet',
}
/** Names that one example means otherwise than the others. */
const ALIASES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'vm-memory/src/cursor.ts': { address: 'guestAddress' },
}
/** A module of its own, which another example loads. */
const PROVIDER = 'on-demand/provider.ts'
const FIXTURES = pathToFileURL(join(root, 'tests/support/example-fixtures.mjs'))
const RUNNER = join(root, 'tests/support/run-examples.mjs')
const TAP = 'vmtap0'

/** An example as a module whose default export runs it. */
function moduleOf({ place, code }: Snippet, index: number, { missing, known }: Checked): string {
  const valueFor = <T>(table: Readonly<Record<string, T>>): T | undefined =>
    Object.entries(table).find(([file]) => place.includes(file))?.[1]
  const own = valueFor(ALIASES) ?? {}
  const prelude = [...(missing[index] ?? [])].map((name) => {
    const entry = known.get(name)
    return entry === undefined
      ? `import { ${own[name] ?? name} as ${name} } from '${FIXTURES}?${index}';`
      : `import { ${name} } from '${entry}';`
  })
  const error = JSON.stringify(valueFor(ERRORS) ?? '')
  return `${prelude.join('')}export const error = ${error}; export default async () => {\n${code}\n}`
}

const toJavaScript = (code: string): string =>
  ts.transpileModule(code, {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
  }).outputText

/** What examples find in their working directory. */
async function fillFolder(folder: string): Promise<void> {
  const file = (name: string) => join(folder, name)
  writeFileSync(file('root.img'), new Uint8Array(2 ** 20))
  writeFileSync(file('memory.bin'), new Uint8Array(2 ** 20))
  writeFileSync(file('frame'), new Uint8Array(1024))
  for (const name of ['vmlinux', 'initramfs.cpio']) symlinkSync(guestFile(name), file(name))
  let saved: Promise<unknown> | undefined
  const vm = await MicroVm.create({
    kernel: await buildBareGuest(join(root, 'guest/bare/programs/restored.c')),
    entry: 'pvh',
    events: {
      bootMarker: () => {
        saved ??= vm.pause().then(async () => {
          const state = stateToJson(await vm.state())
          await writeSnapshot(file('snapshots/web'), { state, memory: vm.memory })
          vm.stop('saved')
        })
      },
    },
  })
  await vm.run()
  await saved
  vm.close()
}

describeWithKvm('documentation', () => {
  describeInNamespace('has', () => {
    test('examples in TSDoc that run', async () => {
      const all = check()
      const modules = mkdtempSync(join(root, 'node_modules', 'test-examples-'))
      const folder = mkdtempSync(join(tmpdir(), 'vmm-examples-'))
      try {
        await fillFolder(folder)
        ip(`tuntap add dev ${TAP} mode tap`)
        ip(`link set ${TAP} up`)
        const docs = docSnippets()
        const places: string[] = []
        for (const [i, snippet] of docs.entries()) {
          const isProvider = snippet.place.includes(PROVIDER)
          if (isProvider) writeFileSync(join(modules, 'pages.js'), toJavaScript(snippet.code))
          else {
            const text = toJavaScript(moduleOf(snippet, i, all))
            writeFileSync(join(modules, `${places.push(snippet.place) - 1}.js`), text)
          }
        }
        writeFileSync(join(modules, 'package.json'), '{ "type": "module" }')
        const args = [RUNNER, modules, String(places.length)]
        await promisify(execFile)(process.execPath, args, { cwd: folder })
        const failures: string[] = JSON.parse(readFileSync(join(modules, 'failures.json'), 'utf8'))
        expect(failures.map((failure) => failure.replace(/^\d+/, (i) => places[Number(i)] ?? i))).toEqual([])
        expect(places.length).toBeGreaterThan(30)
      } finally {
        for (const path of [modules, folder]) rmSync(path, { recursive: true })
      }
    })
  })
})
