/**
 * The VMM that stands in the root README, as a new user makes it: from the packed tarballs, in an empty folder.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { commandLine } from '../../guest/cmdline.mjs'
import { guestFile, startNode } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { members, packPackages, root } from '../support/tarballs.ts'

const LINES = 40
const PATTERN = /^```js\n(\/\/ vmm\.mjs: .*?)^```$/ms
const program = PATTERN.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.[1] ?? ''

test(`the VMM of README.md has ${LINES} lines of code`, () => {
  const code = program.split('\n').filter((line) => line.trim() !== '' && !line.trim().startsWith('//'))
  expect(code.length).toBeGreaterThan(0)
  expect(code.length).toBeLessThanOrEqual(LINES)
})

describeWithKvm('the VMM of README.md', () => {
  const tarballOf = packPackages()
  let folder = ''

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-readme-'))
    const libraries = members.filter(({ directory }) => directory.startsWith('packages/'))
    const tarballs = libraries.map(({ manifest }) => tarballOf(manifest.name).path)
    const options = ['--no-audit', '--no-fund', '--prefer-offline']
    await promisify(execFile)('npm', ['install', ...options, ...tarballs], { cwd: folder })
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('boots the test kernel from the tarballs alone', async () => {
    const path = join(folder, 'vmm.mjs')
    writeFileSync(path, program)
    const guest = [guestFile('vmlinux'), guestFile('initramfs.cpio')]
    const { status, stdout, stderr } = await startNode([path, ...guest, commandLine()]).result
    expect(stderr).toBe('')
    expect(stdout).toMatch(/^Linux version 6\.1\./)
    expect(stdout).toContain('init: reached user space')
    expect(status).toBe(0)
  })
})
