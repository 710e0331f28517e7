/**
 * A program that ends while its guests run: one spins, one waits for an interrupt that never comes.
 *
 *   ending-process exit|throw
 */
import { Mapping } from '@vmm/sys-util'
import { Kvm } from '../src/index.ts'

const CODE_ADDRESS = 0x1000
const MEMORY_SIZE = 0x2000
const PROGRAMS = [
  [0xeb, 0xfe], // jmp $
  [0xf4, 0xeb, 0xfd], // hlt; jmp -1
]

const kvm = Kvm.open()
for (const code of PROGRAMS) {
  const memory = new Mapping({ size: MEMORY_SIZE })
  const vm = kvm.createVm()
  vm.createIrqchip()
  vm.setUserMemoryRegion({ slot: 0, guestAddress: 0, size: MEMORY_SIZE, hostAddress: memory.address })
  new Uint8Array(memory.view()).set(code, CODE_ADDRESS)
  const vcpu = vm.createVcpu(0)
  const sregs = vcpu.getSregs()
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } })
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE_ADDRESS), rflags: 2n })
  void vcpu.run()
}
await new Promise((resolve) => setTimeout(resolve, 50))
if (process.argv[2] === 'throw') throw new Error('nobody catches this')
process.exit(5)
