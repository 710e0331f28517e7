/**
 * VMs in this process: devices that are JavaScript, several at once, nothing left behind.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { Blk, BufferDisk, Rng } from '@vmm/devices/virtio'
import { type AttachDevice, MicroVm } from '@vmm/microvm'
import { expect, test } from 'vitest'
import { guestFile } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { LinuxVm } from '../support/microvm.ts'

const SECTOR_SIZE = 512

const descriptors = () => readdirSync('/proc/self/fd').length
const mappings = () => readFileSync('/proc/self/maps', 'utf8').match(/kvm-vcpu|kvm-vm/g)?.length ?? 0

describeWithKvm('VMs in one process', () => {
  test('two at once, each with a disk in a Buffer that the guest writes to', async () => {
    const buffers = [0, 1].map((index) => new Uint8Array(64 * SECTOR_SIZE).fill(0x61 + index))
    const guests = await Promise.all(
      buffers.map((buffer) =>
        LinuxVm.start({
          // One of them, at least, is not what was there when the guest looked for partitions.
          shape: 'disk',
          devices: [(host) => host.virtio.attach(new Blk({ disk: new BufferDisk(buffer) }))],
        }),
      ),
    )
    for (const [index, guest] of guests.entries()) {
      guest.type(
        'echo "got $(head -c 5 /dev/vda)"',
        `printf 'from ${index}' | dd of=/dev/vda bs=${SECTOR_SIZE} seek=1 conv=sync,fsync 2>/dev/null`,
        'poweroff',
      )
    }
    const ends = await Promise.all(guests.map((guest) => guest.ended))
    expect(ends.map(({ kind }) => kind)).toEqual(['reset', 'reset'])
    for (const [index, guest] of guests.entries()) {
      expect(guest.output).toContain(`got ${(index === 0 ? 'a' : 'b').repeat(5)}`)
      expect(guest.warnings).toEqual([])
      const written = buffers[index]?.subarray(SECTOR_SIZE, SECTOR_SIZE + 6) ?? new Uint8Array()
      expect(Buffer.from(written).toString()).toBe(`from ${index}`)
    }
  })

  test('one that is stopped, or never run, leaves no descriptor and no mapping', async () => {
    const entropy: AttachDevice = (host) => host.virtio.attach(new Rng())
    const options = { kernel: guestFile('vmlinux'), devices: [entropy] }
    const make = () => MicroVm.create({ ...options, memory: 2 ** 26 })
    // What the first one loads stays: libraries, the epoll instance.
    ;(await make()).close()
    const [before, mapped] = [descriptors(), mappings()]
    const unused = await make()
    unused.close()
    const stopped = await make()
    const ended = stopped.run()
    stopped.stop('enough')
    expect(await ended).toEqual({ kind: 'stopped', reason: 'enough' })
    stopped.close()
    stopped.close()
    expect([descriptors(), mappings()]).toEqual([before, mapped])
  })

  test('what cannot be is one sentence, and leaves nothing', async () => {
    const kernel = guestFile('vmlinux')
    const before = descriptors()
    for (const [options, code] of [
      [{ cpus: 0 }, 'ERR_MICROVM_CPUS'],
      [{ cpus: 100_000 }, 'ERR_MICROVM_CPUS'],
      [{ memory: 2 ** 26 + 1 }, 'ERR_MICROVM_MEMORY'],
      [{ memory: 2 ** 50 }, 'ERR_MICROVM_MEMORY'],
      [{ kernel: guestFile('busybox.cpio') }, 'ERR_MICROVM_IMAGE'],
    ] as const) {
      await expect(MicroVm.create({ kernel, ...options })).rejects.toMatchObject({ code })
    }
    expect(descriptors()).toBe(before)
  })
})
