/**
 * The first program of each package's README, as somebody runs it who has copied it: on the built packages, in a folder where
 * a kernel is. What a line is said to print (`// prints 42`) it prints, in that order. And what else of a README is different for who
 * reads it without the repository.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { packageOf, specifiersOf } from '../publish/imports.ts'
import { guestFile } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { firstProgram, linesFound } from '../support/readme.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** Those that run a guest. */
const NEEDS_KVM: readonly string[] = ['kvm-ioctls', 'microvm']
const packages = readdirSync(join(root, 'packages'))

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmm-readme-'))
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  for (const name of ['vmlinux', 'initramfs.cpio']) symlinkSync(guestFile(name), join(folder, name))
})
afterEach(() => rmSync(folder, { recursive: true }))

function testReadme(name: string): void {
  test(`${name}: the program of the README runs, and prints what it says`, async () => {
    const { text, prints } = firstProgram(readFileSync(join(root, 'packages', name, 'README.md'), 'utf8'))
    writeFileSync(join(folder, 'program.mjs'), text)
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['program.mjs'], { cwd: folder })
    expect(stderr).toBe('')
    expect(linesFound(prints, stdout), stdout).toEqual(prints)
  })
}

/** What a reader looks for, in this order; a package may have more of its own between them. */
const CHAPTERS: readonly string[] = [
  'What is covered',
  'What the VMM must supply',
  'Threat model',
  'Limits',
  'Links',
]
const INSTALL = /^`npm install (.*)`$/m

describe('a README, read where npm shows it', () => {
  const readmeOf = (folder: string) => readFileSync(join(root, folder, 'README.md'), 'utf8')
  const texts = packages.map((name) => ({ name, readme: readmeOf(join('packages', name)) }))
  const published = [...texts, { name: 'example-vmm', readme: readmeOf('examples/example-vmm') }]

  test.each(texts)('$name: says what its program needs installed', ({ name, readme }) => {
    const imported = specifiersOf(firstProgram(readme).text).filter((from) => !isBuiltin(from))
    const needed = [`@vmm/${name}`, ...imported.map(packageOf)]
    expect(INSTALL.exec(readme)?.[1]?.split(' ')).toEqual(expect.arrayContaining(needed))
  })

  test.each(texts)('$name: has the chapters that all have, and says what is not covered', ({ readme }) => {
    const chapters = [...readme.matchAll(/^## (.*)$/gm)].map(([, title = '']) => title)
    expect(chapters.filter((title) => CHAPTERS.includes(title))).toEqual(CHAPTERS)
    expect(readme).toMatch(/^Not covered|what is not (emulated|there)/m)
  })

  test.each(published)('$name: has no link that leads into this repository', ({ readme }) => {
    const links = [...readme.matchAll(/\]\(([^)]*)\)/g)].map(([, target = '']) => target)
    expect(links.filter((target) => !target.startsWith('https://'))).toEqual([])
  })
})

describe('packages that need no KVM', () => {
  for (const name of packages.filter((name) => !NEEDS_KVM.includes(name))) testReadme(name)
})

describeWithKvm('packages that run a guest', () => {
  for (const name of NEEDS_KVM) testReadme(name)
})
