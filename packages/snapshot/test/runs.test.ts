import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { joinNearest, PAGE_SIZE, type Run, totalSize, union, visibleSegments } from '../src/runs.ts'

const PAGES = 40

/** Runs of pages in order, apart from each other: where pages are set. */
const runs = fc.array(fc.boolean(), { minLength: PAGES, maxLength: PAGES }).map(fromPages)

function fromPages(pages: readonly boolean[]): Run[] {
  const found: Run[] = []
  for (const [page, isSet] of pages.entries()) {
    const last = found.at(-1)
    if (!isSet) continue
    const position = page * PAGE_SIZE
    if (last !== undefined && last.position + last.size === position) {
      found[found.length - 1] = { position: last.position, size: last.size + PAGE_SIZE }
    } else found.push({ position, size: PAGE_SIZE })
  }
  return found
}

function toPages(found: readonly Run[]): boolean[] {
  const pages = new Array<boolean>(PAGES).fill(false)
  for (const { position, size } of found)
    pages.fill(true, position / PAGE_SIZE, (position + size) / PAGE_SIZE)
  return pages
}

describe('runs of pages', () => {
  test('in one list or another are in their union, once', () => {
    fc.assert(
      fc.property(runs, runs, (one, other) => {
        const [a, b] = [toPages(one), toPages(other)]
        expect(union(one, other)).toEqual(fromPages(a.map((isSet, page) => isSet || b[page] === true)))
      }),
    )
  })

  test('are joined over the least that lies between them', () => {
    expect(
      joinNearest(
        [0, 2, 10, 13, 30].map((page) => ({ position: page * PAGE_SIZE, size: PAGE_SIZE })),
        3,
      ),
    ).toEqual([
      { position: 0, size: 3 * PAGE_SIZE },
      { position: 10 * PAGE_SIZE, size: 4 * PAGE_SIZE },
      { position: 30 * PAGE_SIZE, size: PAGE_SIZE },
    ])
    fc.assert(
      fc.property(runs, fc.integer({ min: 1, max: 10 }), (given, most) => {
        const joined = joinNearest(given, most)
        expect(joined.length).toBe(Math.min(given.length, most))
        const [before, after] = [toPages(given), toPages(joined)]
        expect(before.every((isSet, page) => !isSet || after[page] === true)).toBe(true)
        if (given.length <= most) expect(joined).toEqual(given)
      }),
    )
  })
})

test('of layers the uppermost is seen, at its place in its file', () => {
  fc.assert(
    fc.property(fc.array(runs, { maxLength: 4 }), (upper) => {
      const seen = new Array<string>(PAGES)
      for (let page = 0; page < PAGES; page++) seen[page] = `0 ${page}`
      for (const [index, layer] of upper.entries()) {
        let page = 0
        for (const { position, size } of layer) {
          for (let at = 0; at < size; at += PAGE_SIZE) {
            seen[(position + at) / PAGE_SIZE] = `${index + 1} ${page++}`
          }
        }
      }
      const segments = visibleSegments(PAGES * PAGE_SIZE, upper)
      const pages = segments.flatMap(({ layer, offset, size }) =>
        Array.from({ length: size / PAGE_SIZE }, (_, page) => `${layer} ${offset / PAGE_SIZE + page}`),
      )
      expect(pages).toEqual(seen)
      expect(totalSize(segments)).toBe(PAGES * PAGE_SIZE)
    }),
  )
})
