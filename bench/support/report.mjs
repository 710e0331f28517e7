/**
 * What the benches print: rows, each a figure beside that of a peer or floor from the same run, in one table; and what
 * they ran on, without which no figure means anything.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { pathToFileURL } from 'node:url'

/**
 * @typedef {object} Row
 * @property {string} name what was measured
 * @property {number} figure
 * @property {string} unit of both figures
 * @property {string} peer what it is compared with
 * @property {number} peerFigure what that came to in the same run
 * @property {number} ratio figure to peerFigure: of rates more is better, of times less
 */

/**
 * A row of the table.
 * @param {Omit<Row, 'ratio'> & { ratio?: number }} row the ratio, where it is not that of the two figures: a median of
 *   ratios pair by pair is steadier than the ratio of two medians
 * @returns {Row}
 */
export function row({ name, figure, unit, peer, peerFigure, ratio = figure / peerFigure }) {
  return { name, figure, unit, peer, peerFigure, ratio }
}

/** The value in the middle. */
export const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]

const HEADINGS = ['what', 'figure', 'unit', 'peer', 'its figure', 'ratio']
const COLUMNS_OF_NUMBERS = new Set([1, 4, 5])

/** A number with three digits that count. */
const format = (value) =>
  Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3)

const cells = ({ name, figure, unit, peer, peerFigure, ratio }) => [
  name,
  format(figure),
  unit,
  peer,
  format(peerFigure),
  Number.isFinite(ratio) ? format(ratio) : '-',
]

const pad = (cell, column, width) =>
  COLUMNS_OF_NUMBERS.has(column) ? cell.padStart(width) : cell.padEnd(width)

function lines(rows, separator) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  return rows.map((row) =>
    row
      .map((cell, column) => pad(cell, column, widths[column]))
      .join(separator)
      .trimEnd(),
  )
}

/** The rows as a table for a terminal. @param {readonly Row[]} rows */
export function table(rows) {
  return lines([HEADINGS, ...rows.map(cells)], '  ').join('\n')
}

/** The rows as a table of Markdown. @param {readonly Row[]} rows */
export function markdownTable(rows) {
  const [headings, ...body] = lines([HEADINGS, ...rows.map(cells)], ' | ')
  const rule = HEADINGS.map((_, column) => (COLUMNS_OF_NUMBERS.has(column) ? '---:' : '---')).join(' | ')
  return [headings, rule, ...body].map((line) => `| ${line} |`).join('\n')
}

const QEMU = '/usr/bin/qemu-system-x86_64'

const version = (text) => /\d+(\.\d+)+/.exec(text)?.[0]

/** What the figures were taken on. */
export function machine() {
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: cpus()[0].model.replace(/ \d+-Core Processor$/, ''),
    cpus: cpus().length,
    linux: version(release()),
    node: process.versions.node,
    qemu: existsSync(QEMU) ? version(execFileSync(QEMU, ['--version'], { encoding: 'utf8' })) : undefined,
  }
}

/** {@link machine} in a line. @param {ReturnType<typeof machine>} on */
export function describeMachine({ date, cpu, cpus: count, linux, node, qemu }) {
  const peer = qemu === undefined ? '' : `, QEMU ${qemu}`
  return `${date}: ${cpu}, ${count} CPUs, Linux ${linux}, Node.js ${node}${peer}`
}

/** Whether the file is what Node was started with. @param {ImportMeta} meta */
export const isMain = (meta) => meta.url === pathToFileURL(process.argv[1] ?? '').href

/**
 * Prints the table of a bench that was started by itself.
 * @param {ImportMeta} meta of the bench
 * @param {() => Promise<Row[]>} run
 */
export async function printIfMain(meta, run) {
  if (isMain(meta)) process.stdout.write(`${table(await run())}\n`)
}
