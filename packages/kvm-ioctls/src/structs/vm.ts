/**
 * Arguments of a VM's requests: `<linux/kvm.h>`.
 */
import { array, bytes, s32, size64, u8, u32, u64 } from '../layout/field.ts'
import { Struct } from '../layout/struct.ts'

export const kvm_userspace_memory_region: Struct<{
  slot: number
  flags: number
  guest_phys_addr: number
  memory_size: number
  userspace_addr: bigint
}> = new Struct('kvm_userspace_memory_region', {
  slot: u32,
  flags: u32,
  guest_phys_addr: size64,
  memory_size: size64,
  userspace_addr: u64,
})

export const kvm_userspace_memory_region2: Struct<{
  slot: number
  flags: number
  guest_phys_addr: number
  memory_size: number
  userspace_addr: bigint
  guest_memfd_offset: number
  guest_memfd: number
}> = new Struct('kvm_userspace_memory_region2', {
  slot: u32,
  flags: u32,
  guest_phys_addr: size64,
  memory_size: size64,
  userspace_addr: u64,
  guest_memfd_offset: size64,
  guest_memfd: u32,
  _pad1: u32,
  _pad2: bytes(112),
})

export const kvm_create_guest_memfd: Struct<{ size: number; flags: bigint }> = new Struct(
  'kvm_create_guest_memfd',
  { size: size64, flags: u64, _reserved: bytes(48) },
)

export const kvm_memory_attributes: Struct<{
  address: number
  size: number
  attributes: bigint
  flags: bigint
}> = new Struct('kvm_memory_attributes', { address: size64, size: size64, attributes: u64, flags: u64 })

export const kvm_irq_level: Struct<{ irq: number; level: number }> = new Struct('kvm_irq_level', {
  irq: u32,
  level: u32,
})

export const kvm_irqfd: Struct<{ fd: number; gsi: number; flags: number; resamplefd: number }> = new Struct(
  'kvm_irqfd',
  { fd: u32, gsi: u32, flags: u32, resamplefd: u32, _pad: bytes(16) },
)

export const kvm_ioeventfd: Struct<{
  datamatch: bigint
  addr: number
  len: number
  fd: number
  flags: number
}> = new Struct('kvm_ioeventfd', {
  datamatch: u64,
  addr: size64,
  len: u32,
  fd: s32,
  flags: u32,
  _pad: bytes(36),
})

export const kvm_msi: Struct<{
  address_lo: number
  address_hi: number
  data: number
  flags: number
  devid: number
}> = new Struct('kvm_msi', {
  address_lo: u32,
  address_hi: u32,
  data: u32,
  flags: u32,
  devid: u32,
  _pad: bytes(12),
})

export const kvm_irq_routing: Struct<{ nr: number; flags: number }> = new Struct('kvm_irq_routing', {
  nr: u32,
  flags: u32,
})

/** One route; what `u` holds depends on `type`. */
export const kvm_irq_routing_entry: Struct<{
  gsi: number
  type: number
  flags: number
  u: readonly number[]
}> = new Struct('kvm_irq_routing_entry', {
  gsi: u32,
  type: u32,
  flags: u32,
  _pad: u32,
  // All members of the union are __u32, but for its alignment.
  u: array(u32, 8),
})

export const kvm_enable_cap: Struct<{ cap: number; flags: number; args: readonly bigint[] }> = new Struct(
  'kvm_enable_cap',
  { cap: u32, flags: u32, args: array(u64, 4), _pad: bytes(64) },
)

export const kvm_dirty_log: Struct<{ slot: number; dirty_bitmap: bigint }> = new Struct('kvm_dirty_log', {
  slot: u32,
  _padding1: u32,
  dirty_bitmap: u64,
})

export const kvm_clear_dirty_log: Struct<{
  slot: number
  num_pages: number
  first_page: number
  dirty_bitmap: bigint
}> = new Struct('kvm_clear_dirty_log', {
  slot: u32,
  num_pages: u32,
  first_page: size64,
  dirty_bitmap: u64,
})

export const kvm_coalesced_mmio_zone: Struct<{ addr: number; size: number; pio: number }> = new Struct(
  'kvm_coalesced_mmio_zone',
  { addr: size64, size: u32, pio: u32 },
)

export const kvm_enc_region: Struct<{ addr: bigint; size: number }> = new Struct('kvm_enc_region', {
  addr: u64,
  size: size64,
})

export const kvm_sev_cmd: Struct<{ id: number; data: bigint; error: number; sev_fd: number }> = new Struct(
  'kvm_sev_cmd',
  { id: u32, data: u64, error: u32, sev_fd: u32 },
)

export const kvm_xen_hvm_config: Struct<{
  flags: number
  msr: number
  blob_addr_32: bigint
  blob_addr_64: bigint
  blob_size_32: number
  blob_size_64: number
}> = new Struct('kvm_xen_hvm_config', {
  flags: u32,
  msr: u32,
  blob_addr_32: u64,
  blob_addr_64: u64,
  blob_size_32: u8,
  blob_size_64: u8,
  _pad2: bytes(30),
})
