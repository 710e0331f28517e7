// @vmm/linux-loader: puts a kernel into a Buffer, with all that it wants to find there. No VM, no KVM.
// node load-kernel.js [KERNEL]    an ELF file or a bzImage; default the test guest's
import { fileURLToPath } from 'node:url'
import { configureBoot, ImageFile, loadKernel } from '@vmm/linux-loader'

const TEST_KERNEL = fileURLToPath(new URL('../../.cache/guest/vmlinux', import.meta.url))
/** Where the zero page has the address of the command line, and the number of ranges of RAM. */
const CMD_LINE_PTR = 0x228
const E820_ENTRIES = 0x1e8

const bytes = Buffer.alloc(128 * 2 ** 20)
/** Guest memory is whatever has these four. */
const memory = {
  regions: [{ start: 0, size: bytes.length }],
  checkRange: (/** @type {number} */ address, /** @type {number} */ length) =>
    address + length <= bytes.length,
  writeSlice: (/** @type {number} */ address, /** @type {Uint8Array} */ source) => bytes.set(source, address),
  fill: (/** @type {number} */ address, /** @type {number} */ length, /** @type {number} */ byte) =>
    bytes.fill(byte, address, address + length),
}

const kernel = await loadKernel(memory, new ImageFile(process.argv[2] ?? TEST_KERNEL))
const { regs, sregs } = configureBoot(memory, { kernel, cmdline: 'console=ttyS0 quiet', cpus: 2 })

const hex = (/** @type {number | bigint} */ number) => `0x${number.toString(16)}`
console.log(`${kernel.kind}: ${hex(kernel.kernelStart)} to ${hex(kernel.kernelEnd)}`)
console.log(`entered at ${hex(regs.rip)}: ${bytes.toString('hex', kernel.entry, kernel.entry + 8)} ...`)
console.log(`with RSI ${hex(regs.rsi)}, where the zero page is, and CR3 ${hex(sregs.cr3)}`)
const zeroPage = Number(regs.rsi)
const text = bytes.readUInt32LE(zeroPage + CMD_LINE_PTR)
console.log(`its command line: ${bytes.toString('latin1', text, bytes.indexOf(0, text))}`)
console.log(`its memory map: ${bytes[zeroPage + E820_ENTRIES]} ranges`)
