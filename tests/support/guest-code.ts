/**
 * Machine code for bare-metal guests of a few instructions, entered in 64-bit mode.
 */

/** cli; 1: hlt; jmp 1b */
export const HALT: readonly number[] = [0xfa, 0xf4, 0xeb, 0xfd]
/** 1: jmp 1b */
export const SPIN: readonly number[] = [0xeb, 0xfe]
/** ud2: without an interrupt table a triple fault. */
export const TRIPLE_FAULT: readonly number[] = [0x0f, 0x0b]

/** mov $value, %al; out %al, $port */
export const outByte = (port: number, value: number): number[] => [0xb0, value, 0xe6, port]

/** mov $port, %dx; mov $byte, %al; out %al, %dx; for each character */
export const print = (text: string, port = 0x3f8): number[] => [
  ...[0x66, 0xba, port & 0xff, port >> 8],
  ...Array.from(text, (character) => [0xb0, character.charCodeAt(0), 0xee]).flat(),
]

/** mov $address, %eax; jmp *%rax */
export const jumpTo = (address: number): number[] => [
  0xb8,
  ...[0, 8, 16, 24].map((shift) => (address >>> shift) & 0xff),
  ...[0xff, 0xe0],
]
