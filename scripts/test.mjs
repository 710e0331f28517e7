/**
 * `npm test`: the set-up, then every test. The last line counts them: N passed, N failed, N skipped.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { main, root, runInTerminal, setUp } from './setup.mjs'
import { installTools } from './tools.mjs'

/** Programs that tests call, and the Debian packages that have them. */
const TOOLS = {
  '/usr/sbin/mke2fs': 'e2fsprogs',
  '/usr/bin/script': 'bsdutils',
  '/sbin/ip': 'iproute2',
  '/usr/bin/iasl': 'acpica-tools',
}

/** What was skipped, and why: that stands in brackets in the title of the test, or of what it is part of. */
function skipped(report) {
  const counts = new Map()
  for (const { ancestorTitles, title, status } of report.testResults.flatMap(
    (file) => file.assertionResults,
  )) {
    if (status === 'passed' || status === 'failed') continue
    const titles = [...ancestorTitles, title]
    const name = titles.find((part) => part.includes('(')) ?? titles.join(' ')
    counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  return [...counts].map(([name, count]) => `skipped ${count}: ${name}\n`).join('')
}

main(async () => {
  await setUp()
  installTools(TOOLS)
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
