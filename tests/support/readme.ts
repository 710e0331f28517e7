/**
 * The program that a package's README begins with.
 */

/** A program as a README shows it. */
export interface ReadmeProgram {
  readonly language: 'ts' | 'js'
  readonly text: string
  /** What it prints: the block right after it, where that is one of plain text. */
  readonly output: string | undefined
}

const FENCE = /^```(\w*)\n([\s\S]*?)^```$/gm
const BEGINS_WITH_TEXT = /^\s*```(?:text)?\n([\s\S]*?)^```$/m

/** The first block of code in a README. @throws Error where that is no JavaScript or TypeScript */
export function firstProgram(readme: string): ReadmeProgram {
  const [first] = readme.matchAll(FENCE)
  const [whole, language, text] = first ?? []
  if (first === undefined || whole === undefined || text === undefined) throw new Error('no code')
  if (language !== 'ts' && language !== 'js') throw new Error(`the first code is in ${language}`)
  const rest = readme.slice(first.index + whole.length)
  const next = BEGINS_WITH_TEXT.exec(rest)
  const output = next !== null && rest.slice(0, next.index).trim() === '' ? next[1] : undefined
  return { language, text, output }
}
