/** All encodings; the order of rows counts within one opcode alone. */

import type { Encoding } from '../instruction.ts'
import { accessControlEncodings } from './access-control.ts'
import { bitCountEncodings } from './bit-count.ts'
import { breakpointEncodings } from './breakpoint.ts'
import { compareExchangeEncodings } from './compare-exchange.ts'
import { x87Encodings } from './x87.ts'
import { xsaveEncodings } from './xsave.ts'

export const encodings: readonly Encoding[] = [
  ...breakpointEncodings,
  ...bitCountEncodings,
  ...accessControlEncodings,
  ...x87Encodings,
  ...compareExchangeEncodings,
  ...xsaveEncodings,
]
