// @vmm/devices: a block device whose sectors come from an async function, which Linux reads as /dev/vda.
import { setTimeout as sleep } from 'node:timers/promises'
import { Blk, UserDisk } from '@vmm/devices/virtio'
import { Linux } from './linux.js'

const SECTOR = 512
const TIB = 2 ** 40

// From a bucket, a database, another machine: here it is made up, and takes a moment.
const disk = new UserDisk({
  size: TIB,
  read: async (target, position) => {
    await sleep(1)
    target.fill(0)
    for (let at = 0; at < target.length; at += SECTOR) {
      const text = `sector ${(position + at) / SECTOR}\n`
      new TextEncoder().encodeInto(text, target.subarray(at))
    }
    console.log(`[host] ${target.length} bytes from ${position} on`)
  },
})

const guest = await Linux.boot([(host) => host.virtio.attach(new Blk({ disk }))])
console.log(`[guest] sectors: ${await guest.run('cat /sys/block/vda/size')}`)
for (const sector of [0, 1_000_000, TIB / SECTOR - 1]) {
  const bytes = await guest.run(`dd if=/dev/vda skip=${sector} count=1 2>/dev/null; echo`)
  console.log(`[guest] ${bytes.split('\n')[0]}`)
}
await guest.close()
