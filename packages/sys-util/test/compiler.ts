/**
 * What the system's C compiler says of the system's headers.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

function hasCompiler(): boolean {
  try {
    execFileSync('gcc', ['--version'], { stdio: 'pipe' })
    return true
  } catch {
    return false
  }
}

/** Whether to skip tests that need gcc. With CI set they are not skipped, and fail. */
export const skipWithoutCompiler: boolean = !('CI' in process.env) && !hasCompiler()
if (skipWithoutCompiler) console.warn('gcc is missing: constants are not proved against the C headers')

/** The values of expressions of C. */
export function evaluate(headers: readonly string[], expressions: readonly string[]): bigint[] {
  const directory = mkdtempSync(join(tmpdir(), 'sys-util-c-'))
  try {
    const includes = headers.map((header) => `#include <${header}>\n`).join('')
    const prints = expressions.map((expression) => `printf("%llu\\n", (unsigned long long)(${expression}));`)
    const input = `#define _GNU_SOURCE\n#include <stdio.h>\n${includes}int main(void) { ${prints.join('\n')} }`
    const program = join(directory, 'main')
    execFileSync('gcc', ['-w', '-x', 'c', '-o', program, '-'], { input, stdio: 'pipe' })
    return execFileSync(program, { encoding: 'utf8' }).trim().split('\n').map(BigInt)
  } finally {
    rmSync(directory, { recursive: true })
  }
}
