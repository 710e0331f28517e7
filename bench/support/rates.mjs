/** From what bench programs print (guest/bare/programs/bench.h) to rows of the table. */

import { median, row } from './report.mjs'

/**
 * The words of the command line that ask for jobs.
 * @param {readonly { job: string }[]} jobs
 * @param {{ ticks: number, repeats: number, warmUp: readonly string[] }} options how long each is measured; how often all of
 *   them are done; what is done before
 */
export function jobWords(jobs, { ticks, repeats, warmUp }) {
  const once = jobs.map(({ job }) => job)
  const words = [...warmUp, ...Array.from({ length: repeats }, () => once).flat()]
  return [`ticks=${Math.round(ticks)}`, ...words.map((word) => `job=${word}`)].join(' ')
}

/** Requests a second by the job, of all rounds and repeats. */
export class Rates {
  /** @type {Map<string, number[]>} */
  #samples = new Map()
  #tickRate

  /** @param {number} tickRate ticks of the guest in a second */
  constructor(tickRate) {
    this.#tickRate = tickRate
  }

  /**
   * Adds what a guest printed, less the first time of each job: a VMM that has just started is not what is measured.
   * @param {readonly string[]} lines
   */
  add(lines) {
    const begun = new Set()
    for (const line of lines) {
      const [, job, requests, ticks] = /^bench: (\S+) requests (\d+) ticks (\d+)/.exec(line) ?? []
      if (job === undefined) continue
      const rate = (Number(requests) / Number(ticks)) * this.#tickRate
      if (begun.has(job)) this.#samples.set(job, [...this.of(job), rate])
      begun.add(job)
    }
  }

  /** All rates of a job, in the order in which they were measured. @param {string} job */
  of(job) {
    return this.#samples.get(job) ?? []
  }
}

/**
 * The row of a job, against the fastest of the peers.
 * @param {string} name
 * @param {string} job
 * @param {Rates} own
 * @param {Record<string, Rates>} peers by name
 */
export function rateRow(name, job, own, peers) {
  const found = Object.entries(peers).map(([peer, rates]) => ({ peer, middle: median(rates.of(job)), rates }))
  const best = found.reduce((a, b) => (b.middle > a.middle ? b : a))
  const pairs = best.rates.of(job)
  return row({
    name,
    figure: median(own.of(job)),
    unit: 'requests/s',
    peer: best.peer,
    peerFigure: best.middle,
    // Pair by pair, since a shared machine is not always as fast.
    ratio: median(own.of(job).map((rate, index) => rate / pairs[index])),
  })
}
