/**
 * `npm run docs`: the reference of every entry of every package, as a site in .cache/docs. What is exported without a sentence, or
 * links to nothing, is an error.
 */
import { relative } from 'node:path'
import { Converter } from 'typedoc'
import { entries } from './scripts/entries.mjs'

const root = import.meta.dirname
const modules = entries(root)

/** Calls modules what they are imported as, rather than by their files. */
export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const child of project.children ?? []) {
      const file = child.sources?.[0]?.fullFileName
      child.name = modules.find(({ source }) => source === file)?.name ?? child.name
    }
  })
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
  out: '.cache/docs',
  excludeInternal: true,
  excludePrivate: true,
  validation: { notExported: true, invalidLink: true, notDocumented: true },
  requiredToBeDocumented: ['Class', 'Interface', 'Function', 'TypeAlias', 'Variable'],
  treatWarningsAsErrors: true,
}
