/**
 * `npm run api`: writes what every entry of every package exports to api/, from the declarations that were built. A test compares:
 * a change of what users see is a change of a file there, for reviewers to see.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Extractor, ExtractorConfig } from '@microsoft/api-extractor'
import { entries } from './entries.mjs'
import { main, root, SetupError, setUp } from './setup.mjs'

/** Where the reports are. */
export const reportFolder = join(root, 'api')

/** @typedef {import('./entries.mjs').Entry} Entry */

/**
 * The file of an entry's report, in {@link reportFolder}.
 * @param {Entry} entry
 * @returns {string}
 */
export function reportFile({ name }) {
  return `${name.replace('@vmm/', '').replaceAll('/', '-')}.api.md`
}

const MESSAGES = {
  compilerMessageReporting: { default: { logLevel: 'error' } },
  extractorMessageReporting: {
    default: { logLevel: 'error' },
    // Everything that is exported is public; what is @internal is not in the declarations.
    'ae-missing-release-tag': { logLevel: 'none' },
    // What TypeScript infers or names without exporting it: part of the report.
    'ae-forgotten-export': { logLevel: 'none' },
    'ae-unresolved-link': { logLevel: 'none' },
    // Bundled declarations have it where the bundler puts it.
    'ae-misplaced-package-tag': { logLevel: 'none' },
    // Members that another declaration documents: typedoc knows them.
    'ae-undocumented': { logLevel: 'none' },
  },
  // Links are typedoc's to check.
  tsdocMessageReporting: { default: { logLevel: 'none' } },
}

const COMPILER_OPTIONS = {
  target: 'es2023',
  lib: ['es2023', 'esnext.disposable'],
  module: 'nodenext',
  moduleResolution: 'nodenext',
  types: ['node'],
  strict: true,
  skipLibCheck: true,
}

/**
 * The report of an entry, as it should be.
 * @param {Entry} entry
 * @returns {string}
 * @throws SetupError where its declarations are not fit for one
 */
export function reportOf(entry) {
  const folder = mkdtempSync(join(tmpdir(), 'vmm-api-'))
  try {
    return extract(entry, folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function extract({ name, directory, types }, folder) {
  const report = reportFile({ name })
  if (!existsSync(types)) throw new SetupError(`${name} is not built: npm run build`)
  const config = ExtractorConfig.prepare({
    configObject: {
      projectFolder: directory,
      mainEntryPointFilePath: types,
      compiler: { overrideTsconfig: { compilerOptions: COMPILER_OPTIONS, files: [types] } },
      apiReport: {
        enabled: true,
        reportFolder: folder,
        reportTempFolder: folder,
        reportFileName: report,
        includeForgottenExports: true,
      },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      newlineKind: 'lf',
      messages: MESSAGES,
    },
    configObjectFullPath: undefined,
    packageJsonFullPath: join(directory, 'package.json'),
  })
  const said = []
  const { succeeded } = Extractor.invoke(config, {
    localBuild: true,
    messageCallback: (message) => {
      if (message.logLevel === 'error') said.push(message.text)
      message.handled = true
    },
  })
  if (!succeeded || said.length > 0) throw new SetupError(`${name}: ${said.join('\n')}`)
  return readFileSync(join(folder, report), 'utf8')
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  main(async () => {
    await setUp({ guest: false })
    const written = entries(root).map((entry) => [reportFile(entry), reportOf(entry)])
    rmSync(reportFolder, { recursive: true, force: true })
    mkdirSync(reportFolder)
    for (const [file, text] of written) writeFileSync(join(reportFolder, file), text)
    process.stdout.write(`${written.length} reports in api/\n`)
    return 0
  })
}
