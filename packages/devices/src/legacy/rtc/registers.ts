/**
 * The registers of a PC's real-time clock and CMOS memory: Motorola MC146818A datasheet, and for what the PC
 * added (century, memory sizes, shutdown byte) IBM's AT technical reference and the conventions of its
 * BIOSes.
 */

/** Index port: the register to access, and in bit 7 the NMI mask. */
export const CMOS_INDEX_OFFSET = 0
/** Data port: the register itself. */
export const CMOS_DATA_OFFSET = 1
/** Bit 7 of the index port masks NMIs on a PC's board. */
export const CMOS_INDEX_MASK = 0x7f

/** Time, in BCD or binary by {@link RTC_B_BINARY_BIT}. */
export const RTC_SECONDS = 0x00
export const RTC_SECONDS_ALARM = 0x01
export const RTC_MINUTES = 0x02
export const RTC_MINUTES_ALARM = 0x03
/** Hours, by {@link RTC_B_24_HOURS_BIT}; with 12 hours bit 7 is PM. */
export const RTC_HOURS = 0x04
export const RTC_HOURS_ALARM = 0x05
/** 1 to 7, Sunday is 1. */
export const RTC_DAY_OF_WEEK = 0x06
export const RTC_DAY_OF_MONTH = 0x07
export const RTC_MONTH = 0x08
/** Year in its century. */
export const RTC_YEAR = 0x09
export const RTC_REGISTER_A = 0x0a
export const RTC_REGISTER_B = 0x0b
export const RTC_REGISTER_C = 0x0c
export const RTC_REGISTER_D = 0x0d
/** What firmware is to do after a reset. */
export const CMOS_SHUTDOWN = 0x0f
/** Memory below 640 KiB, in KiB: low byte, and high byte above it. */
export const CMOS_BASE_MEMORY = 0x15
/** Memory from 1 MiB on, in KiB, at most 65,535. */
export const CMOS_EXTENDED_MEMORY = 0x17
/** The same, as firmware measured it. */
export const CMOS_EXTENDED_MEMORY_MEASURED = 0x30
/** The century, in the year's format. ACPI's FADT names this register to the guest. */
export const RTC_CENTURY = 0x32
/** Memory from 16 MiB up to 4 GiB, in units of 64 KiB. */
export const CMOS_MEMORY_ABOVE_16_MIB = 0x34
/** Memory from 4 GiB on, in units of 64 KiB: three bytes. */
export const CMOS_MEMORY_ABOVE_4_GIB = 0x5b

/** Rate of the periodic interrupt. */
export const RTC_A_RATE_MASK = 0b0000_1111
/** Update in progress: time registers must not be read. */
export const RTC_A_UPDATE_IN_PROGRESS_BIT = 0b1000_0000
/** Divider at 32,768 Hz and periodic rate at 1,024 Hz, as firmware sets it. */
export const RTC_A_DEFAULT = 0b0010_0110

/** Hours run from 0 to 23. */
export const RTC_B_24_HOURS_BIT = 0b0000_0010
/** Time registers are binary, not BCD. */
export const RTC_B_BINARY_BIT = 0b0000_0100
/** Interrupt after each update, once a second. */
export const RTC_B_UPDATE_INTERRUPT_BIT = 0b0001_0000
/** Interrupt at the alarm time. */
export const RTC_B_ALARM_INTERRUPT_BIT = 0b0010_0000
/** Interrupt at the periodic rate. */
export const RTC_B_PERIODIC_INTERRUPT_BIT = 0b0100_0000
/** Stops updates so that the time can be set. */
export const RTC_B_SET_BIT = 0b1000_0000

/** Flags in C: the same bits as their enables in B. */
export const RTC_C_FLAGS_MASK = 0b0111_0000
/** An enabled flag is set. */
export const RTC_C_INTERRUPT_BIT = 0b1000_0000

/** Time and memory have been under power throughout. */
export const RTC_D_VALID_BIT = 0b1000_0000

/** An alarm register from here on matches any value. */
export const RTC_ALARM_ANY = 0b1100_0000
