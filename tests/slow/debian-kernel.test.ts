/**
 * Debian's own cloud kernel, untouched, as far as this host lets it. Out of `npm test`: on a host that interprets guest
 * kernels it takes some ten minutes to `smp: Brought up`, and the rest of an hour beyond.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { isInterpretingKvm } from '@vmm/microvm'
import { beforeAll, expect, test } from 'vitest'
import { guestFile, startVmm } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'

const PACKAGE = 'linux-image-cloud-amd64'
const MINUTE = 60_000
/** How far the kernel is to get. */
const GOAL = isInterpretingKvm() ? 'smp: Brought up' : 'init: reached user space'

const run = (command: string, args: readonly string[], cwd: string) =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })

/** Debian's package for the newest cloud kernel, fetched and unpacked once. */
function debianKernel(): string {
  const folder = guestFile('debian')
  mkdirSync(folder, { recursive: true })
  const boot = join(folder, 'boot')
  if (!existsSync(boot)) {
    const dependencies = run('apt-cache', ['depends', PACKAGE], folder)
    const name = /Depends: (linux-image-\S+)/.exec(dependencies)?.[1]
    if (name === undefined) throw new Error(`${PACKAGE} depends on no kernel:\n${dependencies}`)
    run('apt-get', ['download', name], folder)
    const archive = readdirSync(folder).find((file) => file.endsWith('.deb'))
    run('dpkg-deb', ['--extract', String(archive), '.'], folder)
  }
  const image = readdirSync(boot).find((file) => file.startsWith('vmlinuz-'))
  if (image === undefined) throw new Error(`no kernel in ${boot}`)
  return join(boot, image)
}

describeWithKvm(`Debian's ${PACKAGE}`, () => {
  let kernel = ''
  beforeAll(() => {
    kernel = debianKernel()
  }, 5 * MINUTE)

  test(
    `gets as far as "${GOAL}"`,
    async () => {
      const words =
        'console=ttyS0 reboot=k panic=-1 no-kvmclock nofsgsbase mitigations=off noreplace-smp clearcpuid=smap'
      const run = startVmm([
        'run',
        ...['--kernel', kernel, '--initrd', guestFile('initramfs.cpio')],
        ...['--memory', '256', '--cmdline', words, '--timeout', '2400'],
      ])
      run.child.stdout?.pipe(process.stdout)
      await run.waitFor(GOAL)
      run.child.kill('SIGTERM')
      const { status } = await run.result
      // 128 + SIGTERM, or 0 where the guest was quicker to power off.
      expect([143, 0]).toContain(status)
    },
    45 * MINUTE,
  )
})
