/** Bits of RFLAGS, CR0, CR4 and EFER that completion looks at. Intel SDM vol. 3, section 2.3 to 2.5. */

export const FLAG_CF = 0x1
export const FLAG_PF = 0x4
export const FLAG_AF = 0x10
export const FLAG_ZF = 0x40
export const FLAG_SF = 0x80
export const FLAG_TF = 0x100
export const FLAG_OF = 0x800
export const FLAG_RF = 0x10000
export const FLAG_VM = 0x20000
export const FLAG_AC = 0x40000
/** The flags that arithmetic sets. */
export const FLAGS_STATUS: number = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF

export const CR0_PE = 0x1
export const CR0_MP = 0x2
export const CR0_EM = 0x4
export const CR0_TS = 0x8
export const CR0_NE = 0x20
export const CR0_WP = 0x10000
export const CR0_AM = 0x40000
export const CR0_PG = 0x80000000

export const CR4_TSD = 0x4
export const CR4_PSE = 0x10
export const CR4_PAE = 0x20
export const CR4_OSFXSR = 0x200
export const CR4_LA57 = 0x1000
export const CR4_FSGSBASE = 0x10000
export const CR4_OSXSAVE = 0x40000
export const CR4_SMEP = 0x100000
export const CR4_SMAP = 0x200000
export const CR4_PKE = 0x400000

export const EFER_LMA = 0x400
export const EFER_NXE = 0x800
export const EFER_FFXSR = 0x4000

/** DR6.BS: the #DB is for a single step. */
export const DR6_BS: bigint = 1n << 14n
