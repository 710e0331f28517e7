/**
 * `npm run docs`: the reference of every entry of every package, as a site in .cache/docs: its first page has the packages by layer, a
 * package's page its README. What is exported without a sentence, or links to nothing, is an error.
 */
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { Converter, ReflectionKind } from 'typedoc'
import { entries } from './scripts/entries.mjs'

const root = import.meta.dirname
const modules = entries(root)

/** Constants with the names that a specification gives them, which says what they are. */
const SPEC_NAME = /^([A-Z][A-Z0-9_]*|MSR_\w+|kvm_\w+)$/

/** Calls modules what they are imported as, rather than by their files. */
function nameModules({ project }) {
  for (const child of project.children ?? []) {
    const file = child.sources?.[0]?.fullFileName
    child.name = modules.find(({ source }) => source === file)?.name ?? child.name
  }
}

/** What of Markdown may lead to a page of the site, outside of programs: a package's name as code, a link into the repository. */
const REFERENCE = /^```.*?^```|`(@vmm\/[\w/-]+)`|\[([^\]]+)\]\((?!https:|#)([^)]+)\)/gms

/** Markdown as TypeDoc has it, in which packages and documents are links to their pages. */
function pageOf(markdown, project) {
  const pages = [...project.children, ...(project.documents ?? [])]
  const parts = []
  let end = 0
  for (const match of markdown.matchAll(REFERENCE)) {
    const [whole, code, label, path] = match
    const name = code ?? label?.replace(/\.md$/, '')
    if (name === undefined) continue
    const target = pages.find((page) => page.name === name)
    parts.push({ kind: 'text', text: markdown.slice(end, match.index) })
    if (target !== undefined) parts.push({ kind: 'inline-tag', tag: '@link', text: name, target })
    else parts.push({ kind: 'code', text: `\`${path ?? code}\`` })
    end = match.index + whole.length
  }
  parts.push({ kind: 'text', text: markdown.slice(end) })
  return parts
}

/** Gives the site its first page, from the root README, and each package its own. */
function addReadmes({ project }) {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const [, intro = ''] = /^# .*?\n(.*?)^```/ms.exec(readme) ?? []
  const [, packages = ''] = /^## The packages\n(.*?)^## /ms.exec(readme) ?? []
  if (intro === '' || packages === '')
    throw new Error('README.md has lost what the first page of the docs is made of')
  project.readme = pageOf(`${intro}\n${packages}`, project)
  for (const { name, directory } of modules) {
    const page = project.children.find((child) => child.name === name)
    if (page === undefined || name.split('/').length > 2) continue
    const text = readFileSync(join(directory, 'README.md'), 'utf8')
    page.readme = pageOf(text.replace(/^# .*\n/, ''), project)
    // It says the same in a sentence.
    delete page.comment
  }
}

/** Sources are named, and not linked: where they are to be read on the web depends on the clone. */
function unlinkSources({ project }) {
  for (const { sources = [] } of Object.values(project.reflections)) {
    for (const source of sources) delete source.url
  }
}

/** Warns of exports without a sentence; TypeDoc's own check wants one for every method, too: dispose is said to dispose. */
function findUndocumented({ project }, logger) {
  for (const entry of project.children ?? []) {
    for (const { name, comment, signatures = [], kind } of entry.children ?? []) {
      // What an entry has from another one is documented there.
      if (kind === ReflectionKind.Reference || SPEC_NAME.test(name)) continue
      const comments = [comment, ...signatures.map((signature) => signature.comment)]
      const isDocumented = comments.some((candidate) => candidate?.hasVisibleComponent())
      if (!isDocumented) logger.warn(`${entry.name}: ${name} is exported without a sentence on it`)
    }
  }
}

/** TypeDoc calls this. */
export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, nameModules)
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, addReadmes)
  app.converter.on(Converter.EVENT_RESOLVE_END, unlinkSources)
  app.converter.on(Converter.EVENT_RESOLVE_END, (context) => findUndocumented(context, app.logger))
}

/** @type {Partial<import('typedoc').TypeDocOptions>} */
export default {
  name: '@vmm',
  plugin: [load],
  entryPoints: modules.map(({ source }) => relative(root, source)),
  tsconfig: 'tsconfig.json',
  // The compiler has its own test.
  skipErrorChecking: true,
  readme: 'none',
  projectDocuments: ['ARCHITECTURE.md'],
  out: '.cache/docs',
  excludeInternal: true,
  excludePrivate: true,
  // The same site wherever the clone comes from, and where it has no remote.
  disableGit: true,
  sourceLinkTemplate: '{path}',
  validation: { notExported: true, invalidLink: true, notDocumented: false },
  treatWarningsAsErrors: true,
}
