/** Exception vectors that completion raises. Intel SDM vol. 3, table 7-1 (Protected-Mode Exceptions and Interrupts). */

/** Debug exception: a single step. */
export const VECTOR_DB = 1
/** Breakpoint: INT3. */
export const VECTOR_BP = 3
/** Invalid opcode. */
export const VECTOR_UD = 6
/** Device not available: CR0.TS or CR0.EM. */
export const VECTOR_NM = 7
/** Stack-segment fault. */
export const VECTOR_SS = 12
/** General protection. */
export const VECTOR_GP = 13
/** Page fault. */
export const VECTOR_PF = 14
/** x87 floating-point error. */
export const VECTOR_MF = 16
/** Alignment check. */
export const VECTOR_AC = 17
