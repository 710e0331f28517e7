/** Holds the declared layouts against <asm/bootparam.h>, through a C program that prints offsets and sizes. */

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  BOOT_E820_ENTRY,
  BOOT_PARAMS,
  BOOT_PARAMS_SIZE,
  E820_ENTRY_SIZE,
  E820_TABLE_OFFSET,
} from '../src/boot-params.ts'
import { E820_MAX_ENTRIES_ZEROPAGE } from '../src/e820.ts'
import type { Field, Layout } from '../src/fields.ts'
import { SETUP_DATA, SETUP_DATA_HEADER_SIZE, SETUP_DTB, SETUP_RNG_SEED } from '../src/setup-data.ts'
import {
  LOADED_HIGH,
  SETUP_HEADER,
  SETUP_HEADER_OFFSET,
  SETUP_HEADER_SIZE,
  XLF_CAN_BE_LOADED_ABOVE_4G,
  XLF_KERNEL_64,
} from '../src/setup-header.ts'

const layouts: Record<string, Layout<string>> = {
  setup_header: SETUP_HEADER,
  boot_params: BOOT_PARAMS,
  boot_e820_entry: BOOT_E820_ENTRY,
  setup_data: SETUP_DATA,
}
const fields = Object.entries(layouts).flatMap(([struct, layout]) =>
  Object.entries(layout).map(([name, field]): [string, string, Field] => [struct, name, field]),
)
const constants: Record<string, number> = {
  'sizeof(struct boot_params)': BOOT_PARAMS_SIZE,
  'sizeof(struct setup_header)': SETUP_HEADER_SIZE,
  'offsetof(struct boot_params, hdr)': SETUP_HEADER_OFFSET,
  'sizeof(struct boot_e820_entry)': E820_ENTRY_SIZE,
  'offsetof(struct boot_params, e820_table)': E820_TABLE_OFFSET,
  'sizeof(struct setup_data)': SETUP_DATA_HEADER_SIZE,
  E820_MAX_ENTRIES_ZEROPAGE,
  SETUP_DTB,
  SETUP_RNG_SEED,
  LOADED_HIGH,
  XLF_KERNEL_64,
  XLF_CAN_BE_LOADED_ABOVE_4G,
}

const program = `
#include <stddef.h>
#include <stdio.h>
#include <asm/bootparam.h>
#define FIELD(s, f) printf("%zu %zu\\n", offsetof(struct s, f), sizeof(((struct s *)0)->f));
int main(void) {
${fields.map(([struct, name]) => `  FIELD(${struct}, ${name})`).join('\n')}
${Object.keys(constants)
  .map((expression) => `  printf("%zu\\n", (size_t)(${expression}));`)
  .join('\n')}
  return 0;
}
`

const hasCompiler = (() => {
  try {
    execFileSync('gcc', ['-E', '-x', 'c', '-'], { input: '#include <asm/bootparam.h>\n', stdio: 'pipe' })
    return true
  } catch {
    return false
  }
})()
if (!hasCompiler)
  console.warn('skipped: layouts and <asm/bootparam.h>, as gcc or the Linux headers are missing')

describe.skipIf(!hasCompiler)('layouts and <asm/bootparam.h>', () => {
  let directory = ''
  let lines: string[] = []

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'bootparam-'))
    const source = join(directory, 'layout.c')
    const binary = join(directory, 'layout')
    writeFileSync(source, program)
    execFileSync('gcc', ['-o', binary, source], { stdio: 'pipe' })
    lines = execFileSync(binary, { encoding: 'utf8' }).trim().split('\n')
  })

  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  it.each(fields.map(([struct, name, field], i) => [struct, name, field, i] as const))(
    'agree on %s.%s',
    (_struct, _name, field, i) => {
      expect(`${field.offset} ${field.size}`).toBe(lines[i])
    },
  )

  it.each(Object.entries(constants).map(([name, value], i) => [name, value, i] as const))(
    'agree on %s',
    (_name, value, i) => {
      expect(String(value)).toBe(lines[fields.length + i])
    },
  )
})
