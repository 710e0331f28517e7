/**
 * `npm start`: the set-up, then Linux on this terminal. Ctrl-A x quits. Without a terminal the guest says which
 * kernel it is, and powers off.
 */
import { join } from 'node:path'
import { main, root, runInTerminal, setUp } from './setup.mjs'

main(async () => {
  await setUp()
  const { commandLine } = await import('../guest/cmdline.mjs')
  const guest = join(root, '.cache', 'guest')
  const interactive = process.stdin.isTTY === true
  const initrd = join(guest, interactive ? 'busybox.cpio' : 'initramfs.cpio')
  const vmm = join(root, 'node_modules', '.bin', 'example-vmm')
  return runInTerminal(vmm, [
    'run',
    '--kernel',
    join(guest, 'vmlinux'),
    '--initrd',
    initrd,
    '--memory',
    '64',
    '--cmdline',
    commandLine(),
  ])
})
