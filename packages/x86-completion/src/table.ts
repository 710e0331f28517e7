/** The instruction table: every encoding that can be completed, by opcode. */

import type { Encoding } from './instruction.ts'

const VEX_BIT = 1 << 24

/** Encodings indexed by opcode. Those of one opcode have all a ModRM byte or none. */
export class EncodingTable {
  readonly #rows = new Map<number, Encoding[]>()

  constructor(encodings: Iterable<Encoding>) {
    for (const encoding of encodings) {
      const key = encoding.vex === true ? encoding.opcode | VEX_BIT : encoding.opcode
      const rows = this.#rows.get(key)
      if (rows === undefined) this.#rows.set(key, [encoding])
      else rows.push(encoding)
    }
  }

  /** The encodings of an opcode, in the order in which they are to be tried. */
  candidates(opcode: number, isVex: boolean): readonly Encoding[] | undefined {
    return this.#rows.get(isVex ? opcode | VEX_BIT : opcode)
  }
}
