/**
 * Runs of pages, by their place in guest memory as a snapshot counts it: the ranges one after another, from 0.
 */

/** Pages are this long, in bytes. */
export const PAGE_SIZE = 4096

/** Pages one after another. */
export interface Run {
  /** In bytes. */
  readonly position: number
  /** In bytes, above 0. */
  readonly size: number
}

/** The bytes of all of them together: runs, ranges, regions. */
export function totalSize(parts: readonly { readonly size: number }[]): number {
  return parts.reduce((sum, { size }) => sum + size, 0)
}

/** What is in one of two lists, in order, joined where it meets. */
export function union(one: readonly Run[], other: readonly Run[]): Run[] {
  const joined: Run[] = []
  for (const run of [...one, ...other].sort((a, b) => a.position - b.position)) {
    const last = joined.at(-1)
    if (last === undefined || last.position + last.size < run.position) joined.push(run)
    else {
      const end = Math.max(last.position + last.size, run.position + run.size)
      joined[joined.length - 1] = { position: last.position, size: end - last.position }
    }
  }
  return joined
}

/**
 * No more runs than a number, by joining those that have the least between them: a mapping for each run is what a snapshot costs
 * who restores it, and the host has a limit of mappings (vm.max_map_count).
 * @param runs in order, apart from each other
 */
export function joinNearest(runs: readonly Run[], most: number): Run[] {
  const excess = runs.length - most
  if (excess <= 0) return [...runs]
  const gapBefore = (index: number): number => {
    const [before, run] = [runs[index - 1] as Run, runs[index] as Run]
    return run.position - (before.position + before.size)
  }
  const indices = Array.from({ length: runs.length - 1 }, (_, index) => index + 1)
  const closed = new Set(indices.sort((a, b) => gapBefore(a) - gapBefore(b)).slice(0, excess))
  const joined: Run[] = []
  for (const [index, run] of runs.entries()) {
    const last = joined.at(-1)
    if (last === undefined || !closed.has(index)) joined.push(run)
    else {
      const size = run.position + run.size - last.position
      joined[joined.length - 1] = { position: last.position, size }
    }
  }
  return joined
}

/** A part of memory, and where it is. */
export interface Segment extends Run {
  /** The file: 0 for the first layer. */
  readonly layer: number
  /** In that file, in bytes. */
  readonly offset: number
}

/**
 * What is seen of layers that lie one over another.
 * @param size of all memory, in bytes: the first layer has all of it
 * @param upper the runs of the others, in order; each one's file has them one after another
 */
export function visibleSegments(size: number, upper: readonly (readonly Run[])[]): Segment[] {
  let segments: Segment[] = [{ position: 0, size, layer: 0, offset: 0 }]
  for (const [index, runs] of upper.entries()) {
    let offset = 0
    const added = runs.map((run) => {
      const segment = { ...run, layer: index + 1, offset }
      offset += run.size
      return segment
    })
    segments = [...uncovered(segments, runs), ...added].sort((a, b) => a.position - b.position)
  }
  return segments
}

/** What of segments no run covers. Both in order. */
function uncovered(segments: readonly Segment[], runs: readonly Run[]): Segment[] {
  const left: Segment[] = []
  let next = 0
  for (const segment of segments) {
    const end = segment.position + segment.size
    let at = segment.position
    const keep = (to: number): void => {
      if (to <= at) return
      left.push({ ...segment, position: at, size: to - at, offset: segment.offset + at - segment.position })
    }
    for (;;) {
      const run = runs[next]
      if (run === undefined || run.position >= end) break
      keep(run.position)
      at = Math.max(at, run.position + run.size)
      // It may go on into the next segment.
      if (run.position + run.size > end) break
      next++
    }
    keep(end)
  }
  return left
}
