/**
 * A disk that Linux boots from, and what is on it after the VMM was killed.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { openDisk } from '@vmm/block'
import { Blk } from '@vmm/devices/virtio'
import { stateToJson } from '@vmm/microvm'
import { writeSnapshot } from '@vmm/snapshot'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startNode } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { type LinuxOptions, runLinux } from '../support/linux.ts'
import { LinuxVm } from '../support/microvm.ts'
import { makeRootDisk, ROOT_DISK_WORDS, readFromDisk } from '../support/root-disk.ts'
import { savedLinux } from '../support/saved-linux.ts'

let folder: string

const rootDisk = (image: string): LinuxOptions => ({
  devices: ['--disk', `path=${image}`],
  words: ROOT_DISK_WORDS,
  initrd: undefined,
})

/** Of guest/programs/durable.c: every word of a record is its number, from 1 on. */
const RECORD_SIZE = 4096
/** The VMM is killed up to so many milliseconds after the guest has begun to write. */
const KILL_WITHIN_MS = 1200
const KILLS = 50
/** An exit status of e2fsck: it found something and set it right. */
const E2FSCK_CORRECTED = 1
/** The disk of the guest that was saved, beside its snapshot. */
const BASE = 'base.img'
/** The VMM that is killed. */
const RESTORED_VM = fileURLToPath(new URL('../support/restored-vm.mjs', import.meta.url))

describeWithKvm('Linux on a root disk', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-disk-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('boots from ext4 on /dev/vda, and finds there what it wrote the last time', async () => {
    const image = join(folder, 'root.img')
    makeRootDisk(image)
    const first = await runLinux(['grep " / " /proc/mounts', 'seq 1 100 > /root/numbers'], rootDisk(image))
    expect(first.output).toMatch(/^\/dev\/root \/ ext4 rw/m)
    execFileSync('e2fsck', ['-f', '-n', image], { stdio: 'pipe' })
    const second = await runLinux(['tail -n 1 /root/numbers'], rootDisk(image))
    expect(second.output).toMatch(/^100$/m)
  })

  test(`keeps every synced write through ${KILLS} kills of the VMM at random moments`, async () => {
    const snapshot = await savedLinux('root disk', saveAtShell)
    let records = 0
    for (let kill = 0; kill < KILLS; kill++) {
      const image = join(folder, 'killed.img')
      copyFileSync(join(snapshot, BASE), image)
      records += await killWhileWriting(snapshot, image)
    }
    // Had the guest acknowledged nothing, nothing would have been shown.
    expect(records).toBeGreaterThan(KILLS)
  })
})

/** Boots from a disk, and saves the VM with it when its shell is there: booting for every kill would take a quarter of an hour. */
async function saveAtShell(snapshot: string): Promise<void> {
  rmSync(snapshot, { recursive: true, force: true })
  mkdirSync(snapshot)
  const image = join(snapshot, BASE)
  makeRootDisk(image)
  const guest = await LinuxVm.start({
    devices: [(host) => host.virtio.attach(new Blk({ disk: host.own(openDisk(image)) }))],
    words: ROOT_DISK_WORDS,
    initrd: 'none',
  })
  guest.type('echo "re""ady"')
  await guest.until(/^ready$/m)
  await guest.vm.pause()
  await writeSnapshot(snapshot, { state: stateToJson(await guest.vm.state()), memory: guest.vm.memory })
  guest.vm.stop('saved')
  await guest.ended
}

/**
 * Kills the VMM while the guest writes, lets fsck replay the journal, and looks for every record that the guest knew to be
 * durable.
 * @returns how many those were
 */
async function killWhileWriting(snapshot: string, image: string): Promise<number> {
  const vmm = startNode([RESTORED_VM, snapshot, image], { stdin: 'pipe' })
  vmm.child.stdin?.write('durable /records\n')
  await vmm.waitFor('durable: 1\r\n')
  const delay = Math.random() * KILL_WITHIN_MS
  await sleep(delay)
  vmm.child.kill('SIGKILL')
  const { signal, stdout, stderr } = await vmm.result
  expect(signal, stderr).toBe('SIGKILL')

  // Counts of free blocks come right with the replay, which is E2FSCK_CORRECTED. More than that -p would not repair.
  const fsck = spawnSync('e2fsck', ['-f', '-p', image], { encoding: 'utf8' })
  expect([0, E2FSCK_CORRECTED], fsck.stdout + fsck.stderr).toContain(fsck.status)
  execFileSync('e2fsck', ['-f', '-n', image], { stdio: 'pipe' })
  const acknowledged = Number([...stdout.matchAll(/^durable: (\d+)\r$/gm)].at(-1)?.[1])
  const records = readFromDisk(image, '/records')
  expect(records.length, `after ${delay} ms`).toBeGreaterThanOrEqual(acknowledged * RECORD_SIZE)
  for (let number = 1; number <= acknowledged; number++) {
    const record = records.subarray((number - 1) * RECORD_SIZE, number * RECORD_SIZE)
    const expected = Buffer.alloc(RECORD_SIZE, Buffer.from(Uint32Array.of(number).buffer))
    expect(record.equals(expected), `record ${number} of ${acknowledged} after ${delay} ms`).toBe(true)
  }
  return acknowledged
}
