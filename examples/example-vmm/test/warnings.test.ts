import { expect, test } from 'vitest'
import { limitedWarnings, WARNINGS_MAX } from '../src/warnings.ts'

test('a guest cannot fill the log with errors of its devices', () => {
  const shown: string[] = []
  const warn = limitedWarnings((message) => shown.push(message))
  for (let i = 0; i < 1000; i += 1) warn(`disk a.img cannot be read at ${i}`)
  expect(shown.length).toBe(WARNINGS_MAX + 1)
  expect(shown.slice(0, 2)).toEqual(['disk a.img cannot be read at 0', 'disk a.img cannot be read at 1'])
  expect(shown.at(-1)).toMatch(/more such errors/)
})
