/**
 * `--share` with what cannot be: one clear sentence each, before the VM starts.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { kernelImage } from '../support/elf.ts'
import { runVmm } from '../support/example-vmm.ts'
import { HALT } from '../support/guest-code.ts'
import { describeWithKvm } from '../support/kvm.ts'

const USAGE = 2

let folder: string
let kernel: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmm-share-option-'))
  kernel = join(folder, 'kernel')
  writeFileSync(kernel, kernelImage(HALT))
})
afterAll(() => rmSync(folder, { recursive: true }))

async function expectComplaint(shares: readonly string[], sentence: RegExp): Promise<void> {
  const options = shares.flatMap((share) => ['--share', share])
  const { status, stdout, stderr } = await runVmm(['run', '--kernel', kernel, '--memory', '32', ...options])
  expect(stderr).toMatch(sentence)
  expect(stderr).toMatch(/^example-vmm: [^\n]+\n$/)
  expect(stdout).toBe('')
  expect(status).toBe(USAGE)
}

for (const [name, shares, sentence] of [
  ['without a path', ['tag=x'], /--share.*path=DIRECTORY/],
  ['without a tag', ['path=x'], /--share.*tag=NAME/],
  ['whose tag is too long', [`path=x,tag=${'ü'.repeat(19)}`], /--share.*up to 36 bytes, got 38/],
  ['that is neither read-only nor not', ['path=x,tag=x,readonly=maybe'], /--share.*readonly=on/],
  ['with an unknown option', ['path=x,tag=x,cache=no'], /--share.*got cache/],
  ['with a tag that another has', ['path=x,tag=a', 'path=y,tag=a'], /--share.*each tag once, got a twice/],
] as const) {
  test(`a share ${name}`, () => expectComplaint(shares, sentence))
}

describeWithKvm('on KVM', () => {
  test('a share that is not there', () =>
    expectComplaint([`tag=x,path=${folder}/none`], /share .*none does not exist/))
  test('a share that is a file', () =>
    expectComplaint([`tag=x,path=${kernel}`], /share .*kernel is no directory/))
})
