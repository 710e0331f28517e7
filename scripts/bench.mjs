/**
 * `npm run bench`: the set-up, then every file in bench/ that exports `run`, into one table. A row is a figure
 * beside its peer or floor, measured in the same run.
 */
import { readdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { main, root, setUp } from './setup.mjs'

/** @typedef {{ name: string, value: number, unit: string, peer: string, ratio: number }} Row */

const format = (value) =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toPrecision(3)

/** @param {Row[]} rows */
function table(rows) {
  const cells = [
    ['what', 'figure', 'unit', 'against', 'ratio'],
    ...rows.map((row) => [row.name, format(row.value), row.unit, row.peer, `${format(row.ratio)}`]),
  ]
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)))
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

main(async () => {
  await setUp()
  const only = process.argv[2] ?? ''
  const files = readdirSync(join(root, 'bench'))
    .filter((file) => file.endsWith('.mjs') && file.includes(only))
    .sort()
  const rows = []
  for (const file of files) {
    process.stderr.write(`${file} ...\n`)
    const { run } = await import(join(root, 'bench', file))
    rows.push(...(await run()))
  }
  const machine = `${cpus()[0].model}, ${cpus().length} CPUs, Node.js ${process.versions.node}`
  process.stdout.write(`${machine}\n${table(rows)}\n`)
  writeFileSync(join(root, '.cache', 'bench.json'), `${JSON.stringify({ machine, rows }, null, 2)}\n`)
  return 0
})
