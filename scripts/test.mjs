/**
 * `npm test`: the set-up, then every test. The last line counts them: N passed, N failed, N skipped.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { main, root, runInTerminal, setUp } from './setup.mjs'

main(async () => {
  await setUp()
  const results = join(root, '.cache', 'test-results.json')
  rmSync(results, { force: true })
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  const status = await runInTerminal(process.execPath, [
    vitest,
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${results}`,
    ...process.argv.slice(2),
  ])
  if (!existsSync(results)) {
    process.stdout.write('0 passed, 1 failed, 0 skipped\n')
    return status || 1
  }
  const { numPassedTests, numFailedTests, numPendingTests } = JSON.parse(readFileSync(results, 'utf8'))
  process.stdout.write(`${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped\n`)
  return status === 0 && numPassedTests === 0 ? 1 : status
})
