import { describeAttacks } from './hostile-suite.ts'
import { TARGETS } from './hostile-targets.ts'

describeAttacks(TARGETS)
