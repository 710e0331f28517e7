/**
 * Wrong input to example-vmm: one clear sentence, the right exit status, no stack trace.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { EM_X86_64, elf32, elf64, kernelImage, LOAD_ADDRESS, PT_LOAD } from '../support/elf.ts'
import { guestFile, runVmm, startVmm } from '../support/example-vmm.ts'
import { HALT } from '../support/guest-code.ts'
import { describeWithKvm } from '../support/kvm.ts'

const USAGE = 2
const HOST_FAILURE = 1

let folder: string
const file = (name: string) => join(folder, name)

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmm-bad-input-'))
  writeFileSync(file('text'), 'This is no kernel, however long one looks at it.\n'.repeat(100))
  writeFileSync(file('empty'), '')
  const good = kernelImage(HALT)
  writeFileSync(file('good'), good)
  writeFileSync(file('cut'), good.subarray(0, good.length - 1))
  writeFileSync(file('cut-header'), good.subarray(0, 70))
  writeFileSync(file('elf32'), elf32())
  writeFileSync(
    file('huge'),
    elf64({
      machine: EM_X86_64,
      segments: [{ type: PT_LOAD, address: LOAD_ADDRESS, data: Uint8Array.from(HALT), memorySize: 2 ** 30 }],
    }),
  )
  writeFileSync(file('initrd'), Buffer.alloc(63 * 2 ** 20))
  mkdirSync(file('folder'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const run = (name: string, ...more: string[]) => ['run', '--kernel', file(name), '--memory', '64', ...more]

async function expectComplaint(args: readonly string[], status: number, sentence: RegExp): Promise<void> {
  const result = await runVmm(args)
  expect(result.stderr).toMatch(sentence)
  expect(result.stderr).toMatch(/^example-vmm: [^\n]+\n$/)
  expect(result.stdout).toBe('')
  expect(result.status).toBe(status)
}

test('no command', () => expectComplaint([], USAGE, /no command/))
test('an unknown command', () => expectComplaint(['boot'], USAGE, /unknown command 'boot'/))
test('an unknown option', () => expectComplaint(run('good', '--disco'), USAGE, /unknown option '--disco'/))
test('no kernel', () => expectComplaint(['run'], USAGE, /--kernel/))
test('0 CPUs', () => expectComplaint(run('good', '--cpus', '0'), USAGE, /--cpus.* from 1 to /))
test('half a CPU', () => expectComplaint(run('good', '--cpus', '1.5'), USAGE, /--cpus/))
test('1 MiB of memory', () => expectComplaint(run('good', '--memory', '1'), USAGE, /--memory/))
test('memory in no number', () => expectComplaint(run('good', '--memory', 'much'), USAGE, /--memory/))
test('a timeout of 0', () => expectComplaint(run('good', '--timeout', '0'), USAGE, /--timeout/))
test('more memory than the host has', () =>
  expectComplaint(
    run('good', '--memory', String(Math.ceil(totalmem() / 2 ** 20) + 1)),
    USAGE,
    /memory.* host has/,
  ))
test('a report that cannot be written', () =>
  expectComplaint(run('good', '--report', file('nowhere/report')), USAGE, /nowhere\/report/))
test('a kernel that is not there', () => expectComplaint(run('missing'), USAGE, /missing/))
test('a kernel that is a folder', () => expectComplaint(run('folder'), USAGE, /folder/))
test('a kernel that is no kernel', () => expectComplaint(run('text'), USAGE, /text.*no.* kernel/i))
test('a kernel that is empty', () => expectComplaint(run('empty'), USAGE, /empty/))
test('a kernel cut short', () => expectComplaint(run('cut'), USAGE, /cut/))
test('a kernel cut short in its headers', () => expectComplaint(run('cut-header'), USAGE, /cut-header/))
test('a 32-bit kernel', () => expectComplaint(run('elf32'), USAGE, /32-bit/))
test('a kernel that does not fit the memory', () => expectComplaint(run('huge'), USAGE, /1 GiB|1024 MiB/))
test('an initrd that is not there', () =>
  expectComplaint(run('good', '--initrd', file('missing')), USAGE, /missing/))
test('an initrd that does not fit', () =>
  expectComplaint(run('good', '--initrd', file('initrd')), USAGE, /63 MiB/))
test('a command line too long', () =>
  expectComplaint(run('good', '--cmdline', 'x'.repeat(100_000)), USAGE, /command line/))
for (const [name, disk, sentence] of [
  ['without a path', 'readonly=on', /--disk.*path=FILE/],
  ['with an unknown option', 'path=x,cache=no', /--disk.*got cache/],
  ['with an option twice', 'path=x,path=y', /--disk.*one path/],
  ['that is neither read-only nor not', 'path=x,readonly=maybe', /--disk.*readonly=on/],
  ['with an engine that nobody has', 'path=x,engine=steam', /--disk.*engine=io_uring.*got steam/],
  ['with a rate in no number', 'path=x,rate=fast', /--disk.*10M for rate, got fast/],
  ['that nothing may pass', 'path=x,rate=0', /--disk.*rate, got 0/],
  ['with half a request a second', 'path=x,iops=0.5', /--disk.*whole number.*iops, got 0.5/],
  ['whose id is too long', `path=x,id=${'i'.repeat(21)}`, /--disk.*20 characters/],
] as const) {
  test(`a disk ${name}`, () => expectComplaint(run('good', '--disk', disk), USAGE, sentence))
}
test('two disks of one id', () =>
  expectComplaint(run('good', '--disk', 'path=x,id=a', '--disk', 'path=y,id=a'), USAGE, /--disk.*a twice/))
for (const [name, vsock, sentence] of [
  ['without a path', 'cid=3', /--vsock.*uds=PATH/],
  ['without a CID', 'uds=x', /--vsock.*cid=N/],
  ["with the host's CID", 'cid=2,uds=x', /--vsock.*from 3 to 4294967294 for cid, got 2/],
  ['with a CID that is no number', 'cid=x,uds=x', /--vsock.*cid, got x/],
  ["with nobody's CID", 'cid=4294967295,uds=x', /--vsock.*cid, got 4294967295/],
  ['with an unknown option', 'cid=3,uds=x,port=1', /--vsock.*got port/],
] as const) {
  test(`a vsock ${name}`, () => expectComplaint(run('good', '--vsock', vsock), USAGE, sentence))
}
test('two vsocks', () =>
  expectComplaint(run('good', '--vsock', 'cid=3,uds=x', '--vsock', 'cid=4,uds=y'), USAGE, /one --vsock/))
for (const [name, balloon, sentence] of [
  ['with an unknown key', 'size=1M', /--balloon.*got size/],
  ['of no number', 'target=much', /--balloon.*target/],
  ['of half a page', 'target=2K', /--balloon.*4096/],
  ['as large as the memory', 'target=64M', /--balloon.*64 MiB/],
  ['with statistics of no interval', 'stats=0', /--balloon.*from 1 to 86400 for stats/],
  ['that is neither reporting nor not', 'reporting=maybe', /--balloon.*reporting=on/],
] as const) {
  test(`a balloon ${name}`, () => expectComplaint(run('good', '--balloon', balloon), USAGE, sentence))
}
test('a console of no kind', () =>
  expectComplaint(run('good', '--console', 'braille'), USAGE, /--console.*serial, virtio/))
test('help is no error', async () => {
  const result = await runVmm(['run', '--help'])
  expect(result.status).toBe(0)
  expect(result.stdout).toMatch(/--kernel/)
})
test('nor is the version', async () => {
  const { version } = JSON.parse(readFileSync('examples/example-vmm/package.json', 'utf8'))
  expect(await runVmm(['--version'])).toMatchObject({ status: 0, stdout: `${version}\n`, stderr: '' })
})

test('no /dev/kvm', () =>
  expectComplaint([...run('good'), '--kvm', file('no-kvm')], HOST_FAILURE, /no-kvm is not there/))
test('another file in the place of /dev/kvm', () =>
  expectComplaint([...run('good'), '--kvm', '/dev/null'], HOST_FAILURE, /\/dev\/null is not .*KVM/))
test.skipIf(process.getuid?.() !== 0)(
  'no right to /dev/kvm (needs root, to become somebody else)',
  async () => {
    chmodSync(folder, 0o755)
    writeFileSync(file('locked'), '', { mode: 0o600 })
    const result = await runVmm([...run('good'), '--kvm', file('locked')], { uid: 65534 })
    expect(result.stderr).toMatch(/^example-vmm: [^\n]*locked may not be opened[^\n]*\n$/)
    expect(result.status).toBe(HOST_FAILURE)
  },
)

describeWithKvm('on KVM', () => {
  test('more CPUs than KVM allows', () => expectComplaint(run('good', '--cpus', '255'), USAGE, /--cpus/))
  for (const [name, path, sentence] of [
    ['is not there', 'missing', /missing/],
    ['is a folder', 'folder', /folder.*directory/],
    ['is empty', 'empty', /empty/],
    ['is no multiple of 512 bytes', 'cut-header', /cut-header.*512/],
  ] as const) {
    test(`a disk that ${name}`, () =>
      expectComplaint(run('good', '--disk', `path=${file(path)}`), USAGE, sentence))
  }
  for (const [name, path, sentence] of [
    ['is a file', 'text', /vsock socket .*text .*something else/],
    ['is a folder', 'folder', /vsock socket .*folder .*something else/],
    ['is too long', 'x'.repeat(108), /vsock socket .*x has a name of \d+ bytes, 1 to 107/],
    ['is in no directory', 'nowhere/v.sock', /vsock socket .*v\.sock is in no directory/],
  ] as const) {
    test(`a vsock whose path ${name}`, () =>
      expectComplaint(run('good', '--vsock', `cid=3,uds=${file(path)}`), USAGE, sentence))
  }
  test('a vsock whose path another VM has', async () => {
    const path = file('v.sock')
    const first = startVmm([...run('good'), '--vsock', `cid=3,uds=${path}`])
    while (!existsSync(path)) await sleep(20)
    await expectComplaint(run('good', '--vsock', `cid=4,uds=${path}`), USAGE, /vsock socket .* is in use/)
    first.child.kill('SIGTERM')
    expect((await first.result).status).toBe(143)
    expect(existsSync(path)).toBe(false)
  })
  test('a disk that another VM has', async () => {
    writeFileSync(file('disk'), Buffer.alloc(4096))
    const first = startVmm([...run('good'), '--disk', `path=${file('disk')}`])
    while (!readFileSync('/proc/locks', 'latin1').includes(`:${statSync(file('disk')).ino} `)) await sleep(20)
    await expectComplaint(run('good', '--disk', `path=${file('disk')}`), USAGE, /disk.*(lock|use)/)
    first.child.kill('SIGTERM')
    expect((await first.result).status).toBe(143)
  })
  test('a kernel that is given too little time', async () => {
    const result = await runVmm([
      'run',
      '--kernel',
      guestFile('vmlinux'),
      '--memory',
      '64',
      '--timeout',
      '0.2',
    ])
    expect(result.status).toBe(4)
    expect(result.stderr).toMatch(/^example-vmm: [^\n]*timeout[^\n]*\n$/)
  })
})
