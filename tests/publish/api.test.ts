/**
 * What packages export is what api/ says: a change of it is meant, and seen by whoever reviews it. `npm run api` writes api/.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { reportFile, reportFolder, reportOf } from '../../scripts/api.mjs'
import { entries } from '../../scripts/entries.mjs'
import { root } from '../support/tarballs.ts'

const all = entries(root)

test.each(all)('what $name exports is as api/ says', (entry) => {
  expect(reportOf(entry)).toBe(readFileSync(join(reportFolder, reportFile(entry)), 'utf8'))
})

test('api/ has nothing of entries that there are no more', () => {
  expect(readdirSync(reportFolder).sort()).toEqual(all.map(reportFile).sort())
})
