/**
 * `struct setup_header` of the x86 boot protocol, as a bzImage carries it at 0x1f1 and the zero page hands it back.
 *
 * Linux: Documentation/arch/x86/boot.rst; arch/x86/include/uapi/asm/bootparam.h.
 */

import { type Layout, u8, u16, u32, u64, viewOf } from './fields.ts'

/** Where the header stands, in a bzImage and in the zero page alike. */
export const SETUP_HEADER_OFFSET = 0x1f1
/** Bytes of the header that this package knows (protocol 2.15). */
export const SETUP_HEADER_SIZE = 0x7b

/** `boot_flag` of every boot sector. */
export const BOOT_FLAG = 0xaa55
/** `header`: "HdrS". */
export const SETUP_HEADER_MAGIC = 0x53726448
/** `type_of_loader` of a boot loader without an assigned number. */
export const TYPE_OF_LOADER_UNDEFINED = 0xff
/** Boot protocol 2.12, the first with a 64-bit entry point. */
export const BOOT_PROTOCOL_2_12 = 0x20c
/** Boot protocol 2.15. */
export const BOOT_PROTOCOL_2_15 = 0x20f

/** `loadflags`: the protected-mode kernel loads at 1 MiB or above. */
export const LOADED_HIGH = 0b0000_0001
/** `xloadflags`: there is a 64-bit entry point at 0x200. */
export const XLF_KERNEL_64 = 0b0000_0001
/** `xloadflags`: kernel, command line and initrd may lie above 4 GiB. */
export const XLF_CAN_BE_LOADED_ABOVE_4G = 0b0000_0010

/** Name of a field of `struct setup_header`. */
export type SetupHeaderField =
  | 'setup_sects'
  | 'root_flags'
  | 'syssize'
  | 'ram_size'
  | 'vid_mode'
  | 'root_dev'
  | 'boot_flag'
  | 'jump'
  | 'header'
  | 'version'
  | 'realmode_swtch'
  | 'start_sys_seg'
  | 'kernel_version'
  | 'type_of_loader'
  | 'loadflags'
  | 'setup_move_size'
  | 'code32_start'
  | 'ramdisk_image'
  | 'ramdisk_size'
  | 'bootsect_kludge'
  | 'heap_end_ptr'
  | 'ext_loader_ver'
  | 'ext_loader_type'
  | 'cmd_line_ptr'
  | 'initrd_addr_max'
  | 'kernel_alignment'
  | 'relocatable_kernel'
  | 'min_alignment'
  | 'xloadflags'
  | 'cmdline_size'
  | 'hardware_subarch'
  | 'hardware_subarch_data'
  | 'payload_offset'
  | 'payload_length'
  | 'setup_data'
  | 'pref_address'
  | 'init_size'
  | 'handover_offset'
  | 'kernel_info_offset'

/** Fields of `struct setup_header`, by offset in the header. */
export const SETUP_HEADER: Layout<SetupHeaderField> = {
  setup_sects: u8(0x00),
  root_flags: u16(0x01),
  syssize: u32(0x03),
  ram_size: u16(0x07),
  vid_mode: u16(0x09),
  root_dev: u16(0x0b),
  boot_flag: u16(0x0d),
  jump: u16(0x0f),
  header: u32(0x11),
  version: u16(0x15),
  realmode_swtch: u32(0x17),
  start_sys_seg: u16(0x1b),
  kernel_version: u16(0x1d),
  type_of_loader: u8(0x1f),
  loadflags: u8(0x20),
  setup_move_size: u16(0x21),
  code32_start: u32(0x23),
  ramdisk_image: u32(0x27),
  ramdisk_size: u32(0x2b),
  bootsect_kludge: u32(0x2f),
  heap_end_ptr: u16(0x33),
  ext_loader_ver: u8(0x35),
  ext_loader_type: u8(0x36),
  cmd_line_ptr: u32(0x37),
  initrd_addr_max: u32(0x3b),
  kernel_alignment: u32(0x3f),
  relocatable_kernel: u8(0x43),
  min_alignment: u8(0x44),
  xloadflags: u16(0x45),
  cmdline_size: u32(0x47),
  hardware_subarch: u32(0x4b),
  hardware_subarch_data: u64(0x4f),
  payload_offset: u32(0x57),
  payload_length: u32(0x5b),
  setup_data: u64(0x5f),
  pref_address: u64(0x67),
  init_size: u32(0x6f),
  handover_offset: u32(0x73),
  kernel_info_offset: u32(0x77),
}

/** A setup header: 0x7b bytes, zero where the image's own header is shorter. */
export class SetupHeader {
  /** The header's bytes. */
  readonly bytes: Uint8Array
  readonly #view: DataView

  /** @param bytes of a header, cut or padded to 0x7b bytes; copied */
  constructor(bytes: Uint8Array = new Uint8Array(0)) {
    this.bytes = new Uint8Array(SETUP_HEADER_SIZE)
    this.bytes.set(bytes.subarray(0, SETUP_HEADER_SIZE))
    this.#view = viewOf(this.bytes)
  }

  /**
   * One field by its name in the C header.
   * @throws {LoaderError} `ERR_KERNEL_INVALID` for a 64-bit field of 2^53 or more
   */
  get(field: SetupHeaderField): number {
    return SETUP_HEADER[field].get(this.#view)
  }

  /** Changes one field; the value is cut to the field's width. */
  set(field: SetupHeaderField, value: number): void {
    SETUP_HEADER[field].set(this.#view, value)
  }
}
