/**
 * What userfaultfd(2) and its requests take and give: <linux/userfaultfd.h>. A test has a C compiler prove each number.
 */
import { _IO, _IOR, _IOWR } from './ioctl.ts'

export const UFFD_API = 0xaa

const UFFDIO = 0xaa

/** Requests of /dev/userfaultfd. */
export const USERFAULTFD_IOC_NEW: number = /* @__PURE__ */ _IO(0xaa, 0x00)

/** `struct uffdio_api` */
export const uffdio_api = { size: 24, api: 0, features: 8, ioctls: 16 } as const
/** `struct uffdio_range`, with which all but `uffdio_api` and `uffdio_copy` begin. */
export const uffdio_range = { size: 16, start: 0, len: 8 } as const
/** `struct uffdio_register` */
export const uffdio_register = { size: 32, range: 0, mode: 16, ioctls: 24 } as const
/** `struct uffdio_copy` */
export const uffdio_copy = { size: 40, dst: 0, src: 8, len: 16, mode: 24, copy: 32 } as const
/** `struct uffdio_zeropage` */
export const uffdio_zeropage = { size: 32, range: 0, mode: 16, zeropage: 24 } as const
/** `struct uffd_msg`, by the members of its union. */
export const uffd_msg = {
  size: 32,
  event: 0,
  pagefault: { flags: 8, address: 16, ptid: 24 },
  remove: { start: 8, end: 16 },
} as const

export const UFFDIO_API: number = /* @__PURE__ */ _IOWR(UFFDIO, 0x3f, uffdio_api.size)
export const UFFDIO_REGISTER: number = /* @__PURE__ */ _IOWR(UFFDIO, 0x00, uffdio_register.size)
export const UFFDIO_UNREGISTER: number = /* @__PURE__ */ _IOR(UFFDIO, 0x01, uffdio_range.size)
export const UFFDIO_WAKE: number = /* @__PURE__ */ _IOR(UFFDIO, 0x02, uffdio_range.size)
export const UFFDIO_COPY: number = /* @__PURE__ */ _IOWR(UFFDIO, 0x03, uffdio_copy.size)
export const UFFDIO_ZEROPAGE: number = /* @__PURE__ */ _IOWR(UFFDIO, 0x04, uffdio_zeropage.size)

export const UFFDIO_REGISTER_MODE_MISSING = 1
export const UFFD_EVENT_PAGEFAULT = 0x12
export const UFFD_EVENT_REMOVE = 0x15
export const UFFD_PAGEFAULT_FLAG_WRITE = 1
export const UFFD_FEATURE_EVENT_REMOVE: number = 1 << 3
export const UFFD_FEATURE_THREAD_ID: number = 1 << 8
