/** INT3. Intel SDM vol. 2, "INT n/INTO/INT3/INT1". */

import type { Encoding } from '../instruction.ts'
import { VECTOR_BP } from '../vectors.ts'

export const breakpointEncodings: readonly Encoding[] = [
  {
    mnemonic: 'int3',
    opcode: 0xcc,
    // A trap: RIP is behind it when the handler is called.
    execute: (machine) => {
      machine.faults.trap = VECTOR_BP
    },
  },
]
