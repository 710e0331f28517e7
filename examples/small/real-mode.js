// @vmm/kvm-ioctls: runs a few bytes of real-mode code on a virtual CPU and prints what they print.
import { Kvm } from '@vmm/kvm-ioctls'
import { MappedMemory } from '@vmm/vm-memory/mmap'

const START = 0x1000
const TEXT_AT = 0x1010
const CODE = [
  ...[0xbe, TEXT_AT & 0xff, TEXT_AT >> 8], // mov si, TEXT_AT
  ...[0xac], //                          1: lodsb
  ...[0xe6, 0xe9], //                       out 0xe9, al
  ...[0x3c, 0x0a], //                       cmp al, '\n'
  ...[0x75, 0xf9], //                       jne 1b
  ...[0xf4], //                             hlt
]

const kvm = Kvm.open()
const ram = MappedMemory.anonymous([{ start: 0, size: 0x10000 }])
ram.memory.writeSlice(START, Uint8Array.from(CODE))
ram.memory.writeSlice(TEXT_AT, new TextEncoder().encode('hello from 16 bits\n'))

const vm = kvm.createVm()
const hostAddress = ram.memory.hostAddress(0)
vm.setUserMemoryRegion({ slot: 0, guestAddress: 0, size: 0x10000, hostAddress })
const vcpu = vm.createVcpu(0)
const sregs = vcpu.getSregs()
vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } })
vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(START), rflags: 0b10n })

for (let exit = await vcpu.run(); exit.reason !== 'hlt'; exit = await vcpu.run()) {
  if (exit.reason !== 'io-out') throw new Error(`an exit that this guest has no reason for: ${exit.reason}`)
  process.stdout.write(String.fromCharCode(exit.value))
}
vm.close()
ram.close()
kvm.close()
