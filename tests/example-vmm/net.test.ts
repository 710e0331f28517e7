/**
 * `--net` with what cannot be: one clear sentence each, before the VM starts.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { kernelImage } from '../support/elf.ts'
import { runVmm, startVmm } from '../support/example-vmm.ts'
import { HALT, print } from '../support/guest-code.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { describeInNamespace, ip } from '../support/namespace.ts'

const USAGE = 2
const MAC = '02:00:00:00:00:01'

let folder: string
let kernel: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmm-net-'))
  kernel = join(folder, 'kernel')
  writeFileSync(kernel, kernelImage([...print('guest up\n'), ...HALT]))
})
afterAll(() => rmSync(folder, { recursive: true }))

const run = (...nets: string[]) => [
  ...['run', '--kernel', kernel, '--memory', '32'],
  ...nets.flatMap((net) => ['--net', net]),
]

async function expectComplaint(args: readonly string[], sentence: RegExp): Promise<void> {
  const { status, stdout, stderr } = await runVmm(args)
  expect(stderr).toMatch(sentence)
  expect(stderr).toMatch(/^example-vmm: [^\n]+\n$/)
  expect(stdout).toBe('')
  expect(status).toBe(USAGE)
}

for (const [name, nets, sentence] of [
  ['without a tap', ['mac=02:00:00:00:00:01'], /--net.*tap=NAME/],
  ['with an unknown option', ['tap=t,speed=1'], /--net.*got speed/],
  ['with a multicast address', ['tap=t,mac=01:00:5e:00:00:01'], /--net.*multicast/],
  ['with an address of five bytes', ['tap=t,mac=02:00:00:00:01'], /--net.*six bytes/],
  ['with an address in no hexadecimal', ['tap=t,mac=02:00:00:00:00:0g'], /--net.*six bytes/],
  ['with no queue', ['tap=t,queues=0'], /--net.*queues, got 0/],
  ['whose tap another has', ['tap=t', 'tap=t'], /--net.*tap once, got t twice/],
  ['whose address another has', [`tap=t,mac=${MAC}`, `tap=u,mac=${MAC}`], /--net.*mac once, got .*01 twice/],
] as const) {
  test(`a network ${name}`, () => expectComplaint(run(...nets), sentence))
}

describeWithKvm('a network on a tap', () => {
  describeInNamespace('of a host', () => {
    test('that is not there', () => expectComplaint(run('tap=vmnone'), /tap vmnone does not exist/))
    test('whose name is too long', () => expectComplaint(run('tap=sixteenletters12'), /sixteenletters12/))
    test('that is no tap', () => expectComplaint(run('tap=lo'), /lo is a network interface, but no tap/))

    test('that another VM has', async () => {
      ip('tuntap add dev vmtaken mode tap')
      const first = startVmm(run('tap=vmtaken'))
      await first.waitFor('guest up')
      await expectComplaint(run('tap=vmtaken'), /vmtaken.*(taken|use|open)/)
      first.child.kill('SIGTERM')
      await first.result
    })
  })
})
