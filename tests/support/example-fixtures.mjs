/**
 * What the examples in documentation take for granted, as real as it gets: a VM, its memory, queues with requests in them. Each example
 * gets all of it anew (`?NUMBER` behind the name of this module). The working directory has the files that examples name.
 */
import { createHash } from 'node:crypto'
import { openSync } from 'node:fs'

export { readFile } from 'node:fs/promises'

import { createMmioBus, createPioBus, Serial } from '@vmm/devices'
import { MockTransport } from '@vmm/devices/testing'
import { Console, MmioSlots, NET_DONE, Net } from '@vmm/devices/virtio'
import { Kvm } from '@vmm/kvm-ioctls'
import { Cmdline, VM_GENERATION_ID_START } from '@vmm/linux-loader'
import { IoVector, Mapping } from '@vmm/sys-util'
import { ChainPool, DescriptorChain } from '@vmm/virtio-queue'
import { createMockDriver, MockMemory } from '@vmm/virtio-queue/testing'
import { MappedMemory } from '@vmm/vm-memory/mmap'

const MIB = 2 ** 20
const PAGE = 4096
const nothing = () => {}

// Memory, and bytes to put there.
export const mapped = MappedMemory.anonymous([{ start: 0, size: 64 * MIB }])
export const { memory } = mapped
export const guestAddress = 0x1000
export const length = 2 * PAGE
export const bytes = new Uint8Array(16)
export const code = Uint8Array.of(0xf4)
export const hash = createHash('sha256')
export const INVALID = undefined
export const spareOf = () => MIB
export const mapping = new Mapping({ size: PAGE })
export const address = Number(mapping.address)
export const page = new Uint8Array(PAGE).fill(1)

// A VM.
const kvm = Kvm.open()
const kvmVm = kvm.createVm()
export const vcpu = kvmVm.createVcpu(0)
export const vm = Object.assign(kvmVm, { stop: nothing })
export const regs = vcpu.getRegs()
export const sregs = vcpu.getSregs()
export const kernel = { entry: 16 * MIB }
export const cpuid = { entries: kvm.supportedCpuid() }
export const state = { version: 1, address: VM_GENERATION_ID_START }
export const devices = []
/** popcnt ax, bx */
export const exit = { instructionBytes: Uint8Array.of(0xf3, 0x0f, 0xb8, 0xc3) }
const general = { ...regs, rip: 0n, rflags: 2n }
export const context = {
  getRegisters: () => general,
  setRegisters: nothing,
  getSpecialRegisters: () => ({ ...sregs, cr0: 0n }),
}

// Buses and interrupts.
export const pio = createPioBus()
export const mmio = createMmioBus()
export const interrupt = { trigger: nothing }
export const [irq1, irq4, irq8] = [interrupt, interrupt, interrupt]
export const serial = new Serial({ interrupt, output: process.stdout })
export const slots = new MmioSlots()
export const slot = slots.take()
export const cmdline = new Cmdline()
export const onDoorbell = nothing

// A queue with a request, and those who serve it.
const driver = createMockDriver({ memory: new MockMemory(), size: 8 })
driver.send([{ address: driver.allocate(16), length: 16 }])
export const queue = driver.activate()
export const pool = new ChainPool(4)
export const chain = new DescriptorChain()
export const disk = { read: async () => 0 }
export const serve = () => 0
export const setNeedsReset = nothing
export const runner = { run: nothing }
export const BUSY = -1
export const source = [bytes]
export const send = nothing
export const fetchBytes = async (_position, count) => new Uint8Array(count)
export const storeBytes = async () => {}

// Frames, and a guest with room for some.
export const frame = new Uint8Array(60)
export const isArpRequest = () => false
export const arpReply = () => frame
const HEADER_BYTES = 12
const network = {
  attach(sink) {
    network.receiver = sink.receivers[0]
  },
  transmit: () => NET_DONE,
}
const guest = new MockTransport(new Net({ network }), memory)
guest.drivers[0].send([{ address: 8 * MIB, length: 2048, writable: true }])
export const { receiver } = network
export const iovec = new IoVector(4)
/** Of a file with a header and a frame in it. */
export const fd = openSync('frame', 'r')
export const readFrame = (from, vector) => {
  const read = vector.readFrom(from, 0)
  if (read <= HEADER_BYTES) throw new Error(`read ${read} bytes`)
  return read
}

export const port = new Console({ ports: [{ console: true }] }).port(0)
