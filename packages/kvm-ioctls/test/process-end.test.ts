import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import { bundle } from './bundle.ts'
import { skipWithoutKvm } from './harness.ts'

/** Many times what it takes. A process that does not end is killed then, and has no exit code. */
const PATIENCE_MS = 60_000

let program: string
beforeAll(async () => {
  if (!skipWithoutKvm) program = await bundle(join(import.meta.dirname, 'ending-process.ts'))
})

describe.skipIf(skipWithoutKvm)('a process whose guests run', () => {
  for (const [how, code] of [
    ['exit', 5],
    ['throw', 1],
  ] as const) {
    test(`ends by ${how}`, async () => {
      const child = spawn(process.execPath, [fileURLToPath(program), how], {
        stdio: 'ignore',
        timeout: PATIENCE_MS,
        killSignal: 'SIGKILL',
      })
      expect(await once(child, 'exit')).toEqual([code, null])
    })
  }
})
