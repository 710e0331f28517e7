/**
 * Runs examples, one after the other, in a process of its own: `run-examples.mjs FOLDER COUNT`, where FOLDER has 0.js and so on, and
 * gets failures.json. An example may export what error it ends with.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'

/** Longer, for one that boots Linux where its kernel is interpreted. */
const PATIENCE_MS = 240_000

const [folder = '', count = ''] = process.argv.slice(2)
const failures = []
let current = ''
const fail = (error) => failures.push(`${current}: ${error?.stack ?? error}`)
process.on('uncaughtException', fail)
process.on('unhandledRejection', fail)

for (let i = 0; i < Number(count); i += 1) {
  current = String(i)
  try {
    const { default: run, error: expected } = await import(pathToFileURL(join(folder, `${i}.js`)).href)
    const timer = new AbortController()
    const late = sleep(PATIENCE_MS, 'late', { signal: timer.signal }).catch(() => {})
    const ended = run().then(
      () => '',
      (error) => {
        if (expected === '' || error?.message !== expected) throw error
        return expected
      },
    )
    const end = await Promise.race([ended, late])
    timer.abort()
    if (end === 'late') fail('does not end')
    else if (end !== expected) fail(`does not say: ${expected}`)
  } catch (error) {
    fail(error)
  }
}
// What they have begun goes on for a turn or two.
await sleep(100)
writeFileSync(join(folder, 'failures.json'), JSON.stringify(failures))
process.exit()
