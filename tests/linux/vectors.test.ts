/**
 * What the guest's kernel and the host's KVM are to keep of a program together: the vector registers, that string functions of
 * C libraries use. Where a KVM interprets the kernel, programs have all that the host's CPU has, whatever that kernel saves.
 */
import { expect, test } from 'vitest'
import { describeWithKvm } from '../support/kvm.ts'
import { LinuxVm } from '../support/microvm.ts'

/** How often each of two programs gives the CPU to the other; one time has been enough to lose all of them. */
const TURNS = 20

describeWithKvm('programs of a guest', () => {
  test('keep their vector registers while others run', async () => {
    const linux = await LinuxVm.start({ devices: [], shape: 'no devices', initrd: 'programs.cpio' })
    linux.type(`vectors ${TURNS}`, 'poweroff')
    await linux.ended
    expect(linux.output).toMatch(/^vectors: (?:SSE|AVX|AVX-512) registers are kept$/m)
    expect(linux.warnings).toEqual([])
  })
})
