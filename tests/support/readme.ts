/**
 * The program that a package's README begins with, and what it says that it prints.
 */

/** A program of a README. */
export interface ReadmeProgram {
  readonly text: string
  /** Lines that it prints, in this order, among others: those after `// prints`. */
  readonly prints: readonly string[]
}

const FIRST_BLOCK = /^```(\w*)\n(.*?)^```$/ms
const PRINTS = /\/\/ prints (.*)$/gm

/** The first block of code in a README. @throws Error where that is no JavaScript, or says nothing of what it prints */
export function firstProgram(readme: string): ReadmeProgram {
  const [, language, text = ''] = FIRST_BLOCK.exec(readme) ?? []
  if (language !== 'js') throw new Error(`the first code is ${language ?? 'missing'}`)
  const prints = [...text.matchAll(PRINTS)].map(([, line = '']) => line)
  if (prints.length === 0) throw new Error('the program does not say what it prints')
  return { text, prints }
}

/** What of the wanted lines is in an output, in order. */
export function linesFound(wanted: readonly string[], output: string): string[] {
  const lines = output.replaceAll('\r', '').split('\n')
  let from = 0
  return wanted.filter((line) => {
    const at = lines.indexOf(line, from)
    if (at >= 0) from = at + 1
    return at >= 0
  })
}
