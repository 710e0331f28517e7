/** All encodings; the order of rows counts within one opcode alone. */

import type { Encoding } from '../instruction.ts'
import { accessControlEncodings } from './access-control.ts'
import { addCarryEncodings } from './add-carry.ts'
import { bitCountEncodings } from './bit-count.ts'
import { bitManipulationEncodings } from './bit-manipulation.ts'
import { breakpointEncodings } from './breakpoint.ts'
import { cacheEncodings } from './caches.ts'
import { compareExchangeEncodings } from './compare-exchange.ts'
import { crc32Encodings } from './crc32.ts'
import { extendedControlEncodings } from './extended-control.ts'
import { fxsaveEncodings } from './fxsave.ts'
import { mxcsrEncodings } from './mxcsr.ts'
import { processorIdEncodings } from './processor-id.ts'
import { randomEncodings } from './random.ts'
import { segmentBaseEncodings } from './segment-base.ts'
import { segmentQueryEncodings } from './segment-query.ts'
import { undefinedEncodings } from './undefined.ts'
import { x87Encodings } from './x87.ts'
import { xsaveEncodings } from './xsave.ts'

export const encodings: readonly Encoding[] = [
  ...breakpointEncodings,
  ...undefinedEncodings,
  ...bitCountEncodings,
  ...accessControlEncodings,
  ...compareExchangeEncodings,
  ...x87Encodings,
  ...mxcsrEncodings,
  ...fxsaveEncodings,
  ...xsaveEncodings,
  ...extendedControlEncodings,
  ...cacheEncodings,
  ...segmentBaseEncodings,
  ...segmentQueryEncodings,
  ...processorIdEncodings,
  ...randomEncodings,
  ...crc32Encodings,
  ...addCarryEncodings,
  ...bitManipulationEncodings,
]
