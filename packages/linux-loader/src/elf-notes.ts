/**
 * The PVH entry point in ELF notes: XEN_ELFNOTE_PHYS32_ENTRY of Xen's include/public/elfnote.h.
 */

import { getUint64, viewOf } from './fields.ts'
import { LoaderError } from './loader-error.ts'

const XEN_ELFNOTE_PHYS32_ENTRY = 18
const XEN_NOTE_NAME = 'Xen\0'
const NOTE_HEADER_SIZE = 12

// Linux aligns notes to 4 bytes and says 8 in p_align, so p_align is not to be believed.
const align4 = (value: number): number => Math.ceil(value / 4) * 4

/**
 * The 32-bit physical entry point among the notes of one PT_NOTE segment.
 *
 * @returns `undefined` when no Xen note names one
 * @throws {LoaderError} `ERR_KERNEL_PVH_NOTE` when notes run past the segment, or the entry is no 32-bit address
 */
export const findPvhEntry = (notes: Uint8Array): number | undefined => {
  const view = viewOf(notes)
  for (let offset = 0; offset + NOTE_HEADER_SIZE <= notes.length; ) {
    const nameSize = view.getUint32(offset, true)
    const descriptorSize = view.getUint32(offset + 4, true)
    const type = view.getUint32(offset + 8, true)
    const nameStart = offset + NOTE_HEADER_SIZE
    const descriptorStart = nameStart + align4(nameSize)
    if (descriptorStart + descriptorSize > notes.length)
      throw new LoaderError(
        'ERR_KERNEL_PVH_NOTE',
        `the ELF note at ${offset} has ${nameSize} + ${descriptorSize} bytes, but its segment ends at ${notes.length}`,
        { offset, nameSize, descriptorSize },
      )
    if (type === XEN_ELFNOTE_PHYS32_ENTRY && isXen(notes.subarray(nameStart, nameStart + nameSize)))
      return readEntry(view, descriptorStart, descriptorSize)
    offset = descriptorStart + align4(descriptorSize)
  }
  return undefined
}

const isXen = (name: Uint8Array): boolean =>
  name.length === XEN_NOTE_NAME.length && name.every((byte, i) => byte === XEN_NOTE_NAME.charCodeAt(i))

const readEntry = (view: DataView, offset: number, size: number): number => {
  const entry = size === 4 ? view.getUint32(offset, true) : size === 8 ? getUint64(view, offset) : -1
  if (entry >= 0 && entry < 2 ** 32) return entry
  throw new LoaderError('ERR_KERNEL_PVH_NOTE', `the PVH note of ${size} bytes holds no 32-bit address`, {
    size,
  })
}
