import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { bundle, workDirectory } from './bundle.ts'
import { skipWithoutKvm } from './harness.ts'

describe.skipIf(skipWithoutKvm)('the README', () => {
  test('has an example that works', async () => {
    const readme = readFileSync(join(import.meta.dirname, '..', 'README.md'), 'utf8')
    const [, example = ''] = /```ts\n([\s\S]*?)```/.exec(readme) ?? []
    const source = join(workDirectory(), 'example.ts')
    writeFileSync(source, example)
    const program = fileURLToPath(await bundle(source))
    expect(execFileSync(process.execPath, [program], { encoding: 'utf8' })).toBe('port 16: 42\n')
  })
})
