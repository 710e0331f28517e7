/**
 * `npm run bench`: the set-up, then every file in bench/ that exports `run`, into one table. A row is a figure beside that
 * of its peer or floor in the same run. The rows are also written as JSON, and by --readme into README.md.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { main, root, SetupError, setUp } from './setup.mjs'

const USAGE = `npm run bench -- [NAME] [--json FILE] [--readme]

NAME          only the benches whose file has that in its name
--json FILE   where the rows are written (.cache/bench.json)
--readme      writes the rows that README.md shows into its table; without NAME`

function options() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        json: { type: 'string', default: join(root, '.cache', 'bench.json') },
        readme: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
  } catch (error) {
    throw new SetupError(`${error.message}\n\n${USAGE}`)
  }
}

/** The rows of all benches with that in their name. One that fails costs its own rows. */
async function measure(only) {
  const rows = []
  const failed = []
  const files = readdirSync(join(root, 'bench')).filter(
    (file) => file.endsWith('.mjs') && file.includes(only),
  )
  if (files.length === 0) throw new SetupError(`no bench has '${only}' in its name`)
  for (const file of files.sort()) {
    process.stderr.write(`${file} ...\n`)
    try {
      const { run } = await import(join(root, 'bench', file))
      rows.push(...(await run()))
    } catch (error) {
      process.stderr.write(`${file} failed: ${error.stack}\n`)
      failed.push(file)
    }
  }
  return { rows, failed }
}

main(async () => {
  const {
    values,
    positionals: [only = ''],
  } = options()
  if (values.help) {
    process.stdout.write(`${USAGE}\n`)
    return 0
  }
  if (values.readme && only !== '') throw new SetupError('--readme wants all benches: leave out the NAME')
  await setUp()
  const { README_ROWS, replaceTable } = await import('../bench/support/readme.mjs')
  const { describeMachine, machine, markdownTable, table } = await import('../bench/support/report.mjs')
  const { rows, failed } = await measure(only)
  const on = machine()
  const described = describeMachine(on)
  process.stdout.write(`${described}\n${table(rows)}\n`)
  writeFileSync(values.json, `${JSON.stringify({ machine: on, rows, failed }, null, 2)}\n`)
  if (values.readme) {
    const shown = README_ROWS.flatMap((name) => rows.filter((row) => row.name === name))
    if (shown.length === 0) throw new SetupError('none of the rows of README.md has been measured')
    const path = join(root, 'README.md')
    const text = replaceTable(readFileSync(path, 'utf8'), `${markdownTable(shown)}\n\nMeasured ${described}.`)
    if (text === undefined) throw new SetupError('README.md has lost the marks of its table')
    writeFileSync(path, text)
  }
  return failed.length === 0 ? 0 : 1
})
