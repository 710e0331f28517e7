/** The checksum that the tables of a PC's firmware have: ACPI's and the MP table's. */

/** The byte that makes the bytes add up to 0, modulo 256. */
export const checksum = (bytes: Uint8Array): number => -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff
