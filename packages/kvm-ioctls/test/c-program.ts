/**
 * What the system's C compiler says of the kernel's headers.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Another directory of headers than the system's, for example those of a newer kernel. */
const { KVM_UAPI_INCLUDE } = process.env
const INCLUDE = KVM_UAPI_INCLUDE === undefined ? [] : [`-I${KVM_UAPI_INCLUDE}`]
const HEADERS = '#include <linux/kvm.h>\n#include <asm/kvm_para.h>\n'

function hasCompiler(): boolean {
  try {
    execFileSync('gcc', [...INCLUDE, '-fsyntax-only', '-x', 'c', '-'], { input: HEADERS, stdio: 'pipe' })
    return true
  } catch {
    return false
  }
}

/** Whether to skip tests that need gcc and <linux/kvm.h>. With CI set they are not skipped, and fail. */
export const skipWithoutCompiler: boolean = !('CI' in process.env) && !hasCompiler()
if (skipWithoutCompiler) console.warn('gcc or <linux/kvm.h> is missing: layouts and constants are not proved')

/** All macros that the headers define, by name. */
export function macros(): Map<string, string> {
  const text = execFileSync('gcc', [...INCLUDE, '-E', '-dM', '-x', 'c', '-'], {
    input: HEADERS,
    encoding: 'utf8',
  })
  const lines = text.matchAll(/^#define (\w+)(?: (.*))?$/gm)
  return new Map([...lines].map(([, name = '', value = '']) => [name, value]))
}

/** Compiles `statements` into a program's main() and runs it: the lines that it prints, `key value` each. */
export function evaluate(statements: readonly string[]): Map<string, bigint> {
  const directory = mkdtempSync(join(tmpdir(), 'kvm-ioctls-'))
  try {
    const source = join(directory, 'main.c')
    const program = join(directory, 'main')
    const body = statements.join('\n')
    writeFileSync(
      source,
      `#include <stddef.h>\n#include <stdio.h>\n${HEADERS}int main(void) {\n${body}\nreturn 0;\n}\n`,
    )
    execFileSync('gcc', [...INCLUDE, '-w', '-o', program, source], { stdio: 'pipe' })
    const lines = execFileSync(program, { encoding: 'utf8' }).trim().split('\n')
    return new Map(lines.map((line) => [line.split(' ')[0] ?? '', BigInt(line.split(' ')[1] ?? 0)]))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

/** The statement that prints an expression of C under a key. */
export function print(key: string, expression: string): string {
  return `printf("${key} %llu\\n", (unsigned long long)(${expression}));`
}
