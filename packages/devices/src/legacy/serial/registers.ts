/**
 * The registers of a 16550A by their datasheet names: TI PC16550D (SNLS378), tables 1 to 5. Offsets are
 * from the base port; with the divisor latch open (LCR bit 7) offsets 0 and 1 are DLL and DLM.
 */

/** Receiver buffer when read, transmitter holding register when written. */
export const DATA_OFFSET = 0
/** Divisor latch, low byte, when LCR's DLAB is set. */
export const DLL_OFFSET = 0
/** Interrupt enable register. */
export const IER_OFFSET = 1
/** Divisor latch, high byte, when LCR's DLAB is set. */
export const DLM_OFFSET = 1
/** Interrupt identification register, read only. */
export const IIR_OFFSET = 2
/** FIFO control register, write only. */
export const FCR_OFFSET = 2
/** Line control register. */
export const LCR_OFFSET = 3
/** Modem control register. */
export const MCR_OFFSET = 4
/** Line status register. */
export const LSR_OFFSET = 5
/** Modem status register. */
export const MSR_OFFSET = 6
/** Scratch register. */
export const SCR_OFFSET = 7

/** Interrupt when data is received. */
export const IER_RDA_BIT = 0b0001
/** Interrupt when the transmitter holding register is empty. */
export const IER_THRE_BIT = 0b0010
/** Interrupt on a receiver line status error or break. */
export const IER_RLS_BIT = 0b0100
/** Interrupt on a change of a modem input. */
export const IER_MS_BIT = 0b1000
/** The bits of IER that exist. */
export const IER_MASK = 0b1111

/** IIR: modem status. */
export const IIR_MS = 0b0000
/** IIR: nothing pending. */
export const IIR_NONE = 0b0001
/** IIR: transmitter holding register empty. */
export const IIR_THRE = 0b0010
/** IIR: received data available, the FIFO at or above its trigger level. */
export const IIR_RDA = 0b0100
/** IIR: receiver line status. */
export const IIR_RLS = 0b0110
/** IIR: character timeout, data in the FIFO below its trigger level. */
export const IIR_CTI = 0b1100
/** The bits of IIR that identify the interrupt. */
export const IIR_ID_MASK = 0b1111
/** Both bits are set while the FIFOs are on: this is how drivers tell a 16550A. */
export const IIR_FIFO_BITS = 0b1100_0000

/** Turns both FIFOs on; a change of it empties them. */
export const FCR_ENABLE_BIT = 0b0001
/** Empties the receive FIFO. Clears itself. */
export const FCR_CLEAR_RECEIVE_BIT = 0b0010
/** Empties the transmit FIFO. Clears itself. */
export const FCR_CLEAR_TRANSMIT_BIT = 0b0100
/** DMA mode of the RXRDY and TXRDY pins, which no PC wires. */
export const FCR_DMA_MODE_BIT = 0b1000
/** Receive trigger level: 1, 4, 8 or 14 bytes. */
export const FCR_TRIGGER_MASK = 0b1100_0000

/** Sends a break for as long as it is set. */
export const LCR_BREAK_BIT = 0b0100_0000
/** Opens the divisor latch at offsets 0 and 1. */
export const LCR_DLAB_BIT = 0b1000_0000

/** Data terminal ready. */
export const MCR_DTR_BIT = 0b0_0001
/** Request to send. */
export const MCR_RTS_BIT = 0b0_0010
/** Auxiliary output 1. */
export const MCR_OUT1_BIT = 0b0_0100
/** Auxiliary output 2: on a PC it connects the interrupt. */
export const MCR_OUT2_BIT = 0b0_1000
/** Loopback: what is sent is received, and MSR shows MCR. */
export const MCR_LOOP_BIT = 0b1_0000
/** The bits of MCR that exist. */
export const MCR_MASK = 0b1_1111

/** Data ready. */
export const LSR_DR_BIT = 0b0000_0001
/** Overrun: a received byte was lost. */
export const LSR_OE_BIT = 0b0000_0010
/** Break received. */
export const LSR_BI_BIT = 0b0001_0000
/** Transmitter holding register empty. */
export const LSR_THRE_BIT = 0b0010_0000
/** Transmitter empty. */
export const LSR_TEMT_BIT = 0b0100_0000
/** An error or break somewhere in the receive FIFO. */
export const LSR_FIFO_ERROR_BIT = 0b1000_0000

/** Clear to send has changed. */
export const MSR_DCTS_BIT = 0b0000_0001
/** Data set ready has changed. */
export const MSR_DDSR_BIT = 0b0000_0010
/** Ring indicator has gone off. */
export const MSR_TERI_BIT = 0b0000_0100
/** Carrier detect has changed. */
export const MSR_DDCD_BIT = 0b0000_1000
/** Clear to send. */
export const MSR_CTS_BIT = 0b0001_0000
/** Data set ready. */
export const MSR_DSR_BIT = 0b0010_0000
/** Ring indicator. */
export const MSR_RI_BIT = 0b0100_0000
/** Data carrier detect. */
export const MSR_DCD_BIT = 0b1000_0000
/** The four input lines in MSR. */
export const MSR_LINES_MASK = 0b1111_0000
