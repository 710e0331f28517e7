/**
 * Kernel code with the instructions that a software KVM lacks: it computes what hardware would, on every host; on one
 * that interprets, because the VMM completes them.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EXIT_PORT } from '@vmm/devices'
import { isInterpretingKvm } from '@vmm/microvm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { kernelImage } from '../support/elf.ts'
import { runVmmWithReport } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'

/** out %al, $EXIT_PORT */
const EXIT_WITH_AL = [0xe6, EXIT_PORT]

interface Case {
  /** Mnemonic, as the report has it. */
  readonly mnemonic: string
  /** Machine code that leaves its result in AL. */
  readonly code: readonly number[]
  readonly result: number
}

const cases: readonly Case[] = [
  {
    mnemonic: 'popcnt',
    // mov $0xff00ff, %eax; popcnt %eax, %eax
    code: [0xb8, 0xff, 0x00, 0xff, 0x00, 0xf3, 0x0f, 0xb8, 0xc0],
    result: 16,
  },
  {
    mnemonic: 'popcnt',
    // mov $0x4ffe, %edi; movl $7, (%rdi), of which half lies in the next page; popcntl (%rdi), %eax
    code: [0xbf, 0xfe, 0x4f, 0, 0, 0xc7, 0x07, 7, 0, 0x0f, 0, 0xf3, 0x0f, 0xb8, 0x07],
    result: 7,
  },
  {
    mnemonic: 'cmpxchg8b/16b',
    // xor %eax, %eax; xor %edx, %edx; mov $9, %ebx; mov $7, %ecx; mov $0x5000, %edi; lock cmpxchg16b (%rdi);
    // mov (%rdi), %al; add 8(%rdi), %al
    code: [
      ...[0x31, 0xc0, 0x31, 0xd2, 0xbb, 9, 0, 0, 0, 0xb9, 7, 0, 0, 0, 0xbf, 0x00, 0x50, 0, 0],
      ...[0xf0, 0x48, 0x0f, 0xc7, 0x0f, 0x8a, 0x07, 0x02, 0x47, 0x08],
    ],
    result: 16,
  },
  {
    mnemonic: 'stac',
    // stac; pushf; pop %rax; shr $18, %eax: the AC flag
    code: [0x0f, 0x01, 0xcb, 0x9c, 0x58, 0xc1, 0xe8, 18],
    result: 1,
  },
]

let folder: string

describeWithKvm('kernel code', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-completion-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  cases.forEach(({ mnemonic, code, result }, index) => {
    test(`executes ${mnemonic}, case ${index}`, async () => {
      const kernel = join(folder, String(index))
      writeFileSync(kernel, kernelImage([...code, ...EXIT_WITH_AL]))
      const { report, stderr } = await runVmmWithReport(['run', '--kernel', kernel, '--memory', '32'])
      expect(stderr).toBe('')
      expect(report.reason).toBe(`the guest ended the VM with ${result}`)
      if (isInterpretingKvm()) expect(report.completions[mnemonic]).toBe(1)
      else expect(report.completions).toEqual({})
    })
  })
})
