/**
 * What packages export is what api/ says: a change of it is meant, and seen by whoever reviews it. `npm run api` writes api/.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { entries, reportFolder, reportOf } from '../../scripts/api.mjs'

test.each(entries())('$name exports what api/$report says', (entry) => {
  expect(reportOf(entry)).toBe(readFileSync(join(reportFolder, entry.report), 'utf8'))
})

test('api/ has nothing of entries that there are no more', () => {
  expect(readdirSync(reportFolder).sort()).toEqual(
    entries()
      .map(({ report }) => report)
      .sort(),
  )
})
