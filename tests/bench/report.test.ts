/** What `npm run bench` prints and writes. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { README_ROWS, replaceTable } from '../../bench/support/readme.mjs'
import { describeMachine, markdownTable, row, table } from '../../bench/support/report.mjs'

const README = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
const rows = [
  row({ name: 'reads', figure: 120_000, unit: 'requests/s', peer: 'QEMU', peerFigure: 60_000 }),
  row({ name: 'a call', figure: 1.5, unit: 'us', peer: 'C', peerFigure: 3, ratio: 0.49 }),
  row({ name: 'garbage', figure: 0, unit: 'bytes', peer: 'nothing', peerFigure: 0 }),
]

test('a row has its ratio, or the one that it is given, or none', () => {
  expect(rows.map(({ ratio }) => ratio)).toEqual([2, 0.49, Number.NaN])
  expect(table(rows).split('\n')).toEqual([
    'what      figure  unit        peer     its figure  ratio',
    'reads    120,000  requests/s  QEMU         60,000   2.00',
    'a call      1.50  us          C              3.00  0.490',
    'garbage     0.00  bytes       nothing        0.00      -',
  ])
})

test('the table goes between the marks of the README, and changes nothing else', () => {
  const once = replaceTable(README, markdownTable(rows))
  expect(once).toContain('\n| reads   | 120,000 | requests/s | QEMU    |     60,000 |  2.00 |\n')
  expect(replaceTable(once ?? '', 'TEXT')).toBe(replaceTable(README, 'TEXT'))
  const [before = ''] = README.split('<!-- bench: begin -->')
  expect(once?.startsWith(before)).toBe(true)
  expect(replaceTable('no marks', 'TEXT')).toBeUndefined()
})

test('the README names no row twice', () => {
  expect(new Set(README_ROWS).size).toBe(README_ROWS.length)
})

test('says what the figures were taken on', () => {
  const on = { date: '2026-11-22', cpu: 'A CPU', cpus: 2, linux: '6.18.4', node: '20.20.2', qemu: undefined }
  const line = '2026-11-22: A CPU, 2 CPUs, Linux 6.18.4, Node.js 20.20.2'
  expect(describeMachine(on)).toBe(line)
  expect(describeMachine({ ...on, qemu: '7.2.22' })).toBe(`${line}, QEMU 7.2.22`)
})
