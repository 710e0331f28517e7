/**
 * `npm test`: the set-up, then every test. The last line counts them: N passed, N failed, N skipped.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { main, root, runInTerminal, setUp } from './setup.mjs'

/** What was skipped, by name: the names say why. Whole groups are one line. */
function skipped(report) {
  const counts = new Map()
  for (const { assertionResults } of report.testResults) {
    for (const { status, ancestorTitles, title } of assertionResults) {
      if (status === 'passed' || status === 'failed') continue
      const group = assertionResults.filter(
        (other) => other.ancestorTitles[0] === ancestorTitles[0] && other.status === 'passed',
      )
      const whole = ancestorTitles.length > 0 && group.length === 0
      const name = whole ? ancestorTitles[0] : [...ancestorTitles, title].join(' ')
      counts.set(name, (counts.get(name) ?? 0) + 1)
    }
  }
  return [...counts]
    .map(([name, count]) => `skipped ${count > 1 ? `${count} tests` : 'test'}: ${name}\n`)
    .join('')
}

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
  const report = JSON.parse(readFileSync(results, 'utf8'))
  const { numPassedTests, numFailedTests, numPendingTests } = report
  process.stdout.write(skipped(report))
  process.stdout.write(`${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped\n`)
  return status === 0 && numPassedTests === 0 ? 1 : status
})
