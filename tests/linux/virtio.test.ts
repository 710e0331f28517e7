/**
 * Virtio devices under their real drivers, in a real Linux on real KVM.
 */
import { execFileSync } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeWithKvm } from '../support/kvm.ts'
import { runLinux } from '../support/linux.ts'

/** The registers were set up when the guest booted, by exits; requests and interrupts are not among these. */
const SOME_WRITES = 10

let folder: string

describeWithKvm('virtio in Linux', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-virtio-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('virtio-blk keeps an ext4 file system, beside a read-only disk', async () => {
    const tree = join(folder, 'tree')
    mkdirSync(tree)
    // Another every time, or what a guest that was saved remembers would do.
    const greeting = `hello from the host: ${randomUUID()}`
    writeFileSync(join(tree, 'greeting'), `${greeting}\n`)
    const [writable, readOnly] = ['writable.img', 'read-only.img'].map((name) => join(folder, name))
    for (const image of [writable, readOnly]) {
      execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', tree, String(image), '16m'])
    }
    const { output, report } = await runLinux(
      [
        'mkdir /a /b; mount /dev/vda /a && mount -o ro /dev/vdb /b',
        'echo "serials $(cat /sys/block/vda/serial) $(cat /sys/block/vdb/serial) ro $(cat /sys/block/vdb/ro)"',
        'cat /a/greeting; seq 1 400 > /a/numbers; echo "sum $(md5sum < /a/numbers)"; umount /a',
        'echo "read $(md5sum < /b/greeting)"',
      ],
      {
        shape: 'a disk and a read-only one of 16 MiB',
        devices: ['--disk', `path=${writable}`, '--disk', `path=${readOnly},readonly=on,id=second`],
      },
    )
    expect(output).toMatch(/^serials disk0 second ro 1$/m)
    expect(output).toMatch(new RegExp(`^${greeting}$`, 'm'))
    const md5 = (data: string | Buffer) => createHash('md5').update(data).digest('hex')
    const numbers = Array.from({ length: 400 }, (_, index) => `${index + 1}\n`).join('')
    expect(output).toMatch(new RegExp(`^sum ${md5(numbers)}`, 'm'))
    expect(output).toMatch(new RegExp(`^read ${md5(`${greeting}\n`)}`, 'm'))
    // The host finds what the guest wrote, in a file system without a fault.
    execFileSync('e2fsck', ['-f', '-n', String(writable)], { stdio: 'pipe' })
    const found = execFileSync('debugfs', ['-R', 'cat numbers', String(writable)], { stdio: 'pipe' })
    expect(md5(found)).toBe(md5(numbers))
    expect(report.exits['mmio-read']).toBeUndefined()
    expect(report.exits['mmio-write'] ?? 0).toBeLessThan(SOME_WRITES)
  })

  test('virtio-rng serves hundreds of requests without an exit for any of them', async () => {
    const { output, report } = await runLinux(
      [
        'echo "source $(cat /sys/class/misc/hw_random/rng_current)"',
        'echo "before $(grep virtio /proc/interrupts)"; echo "got $(head -c 20000 /dev/hwrng | wc -c)"',
        'echo "after $(grep virtio /proc/interrupts)"',
      ],
      { shape: 'rng', devices: ['--rng'] },
    )
    expect(output).toMatch(/^source virtio_rng\.0$/m)
    expect(output).toMatch(/^got 20000$/m)
    const interrupts = (when: string) =>
      Number(new RegExp(`^${when} +\\d+: +(\\d+) .*virtio0`, 'm').exec(output)?.[1])
    expect(interrupts('after') - interrupts('before')).toBeGreaterThan(200)
    expect(report.exits['mmio-read']).toBeUndefined()
    expect(report.exits['mmio-write'] ?? 0).toBeLessThan(SOME_WRITES)
  })
})
