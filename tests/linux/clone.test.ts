/**
 * Linux that is restored more than once: each clone knows that it is one, has a CID of its own, and loses the connections of the guest
 * that was saved, but makes new ones in both directions. So do clones of clones.
 */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { VM_GENERATION_ID_SIZE } from '@vmm/devices'
import { Blk, BufferDisk, Net, UserNetwork, Vsock, type VsockStream } from '@vmm/devices/virtio'
import { type AttachDevice, stateFromJson, stateToJson } from '@vmm/microvm'
import { Snapshot, writeSnapshot } from '@vmm/snapshot'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeWithKvm } from '../support/kvm.ts'
import { LinuxVm } from '../support/microvm.ts'

/** How often what was restored is saved again, with connections open. */
const GENERATIONS = 3
const FIRST_CID = 3
const HOST_PORT = 1000
const GUEST_PORT = 2000
/** For guests whose kernel is interpreted, on hosts with other work. */
const PATIENCE_MS = 240_000
/** What the two programs say that had connections: what they meet depends on what they were at. */
const LOST_BOTH = /(?:(?:reset by peer|not connected)[\s\S]*){2}/
/** What Linux says when it has found another generation ID. */
const FORKED = /random: crng reseeded due to virtual machine fork\n/

/** A guest, with the host's side of its vsock. */
interface Cell {
  readonly linux: LinuxVm
  readonly vsock: Vsock
  /** What the guest has sent on connections that it made, in their order. */
  readonly said: string[]
  /** Open on the host's side: one that each side has made. */
  readonly streams: VsockStream[]
}

let folder: string

/** A vsock whose host listens, and what it is with its guest. */
function vsockOf(guestCid: number) {
  let vsock: Vsock
  const said: string[] = []
  const streams: VsockStream[] = []
  const device: AttachDevice = (host) => {
    vsock = host.own(new Vsock({ guestCid }))
    host.virtio.attach(vsock)
    vsock.listen(HOST_PORT, (stream) => {
      streams.push(stream.on('error', () => {}))
      stream.on('data', (data: Buffer) => said.push(String(data).trim()))
    })
  }
  return { device, cell: (linux: LinuxVm): Cell => ({ linux, vsock, said, streams }) }
}

/** A connection to the echo of the guest, which has answered. */
async function expectEcho(vsock: Vsock, text: string): Promise<VsockStream> {
  const stream = await vsock.connect(GUEST_PORT, { timeout: PATIENCE_MS })
  stream.write(text)
  const [answer] = await once(stream, 'data')
  expect(String(answer)).toBe(text)
  return stream.on('error', () => {})
}

/** Saves a guest under a name, ends it, and sees to it that its connections end on the host's side. */
async function save({ linux, streams }: Cell, name: string): Promise<string> {
  const path = join(folder, name)
  const ends = streams.map((stream) => new Promise((go) => stream.once('close', go)))
  await linux.vm.pause()
  await writeSnapshot(path, { state: stateToJson(await linux.vm.state()), memory: linux.vm.memory })
  linux.vm.stop('saved')
  await linux.ended
  await Promise.all(ends)
  expect(streams.map(({ errored }) => (errored as NodeJS.ErrnoException | null)?.code)).toEqual(
    streams.map(() => 'ECONNRESET'),
  )
  return path
}

async function restore(path: string, guestCid: number): Promise<Cell> {
  const { device, cell } = vsockOf(guestCid)
  const snapshot = Snapshot.open(path)
  const state = stateFromJson(snapshot.state)
  const linux = await LinuxVm.restore(state, snapshot.mapMemory(), { devices: [device] })
  snapshot.close()
  return cell(linux)
}

/** Types a command, and waits for what it prints. */
async function ask({ linux }: Cell, command: string, answer: RegExp): Promise<string> {
  linux.type(command)
  const [, found = ''] = await linux.until(answer)
  return found
}

function generationId({ linux }: Cell, address: number): string {
  const id = new Uint8Array(VM_GENERATION_ID_SIZE)
  linux.vm.memory.readSlice(address, id)
  return Buffer.from(id).toString('hex')
}

describeWithKvm('clones of a saved guest', () => {
  let saved: string
  let address: number

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-clone-'))
    const first = vsockOf(FIRST_CID)
    const linux = await LinuxVm.start({
      initrd: 'programs.cpio',
      shape: 'vsock',
      devices: [first.device],
      acpi: true,
    })
    const cell = first.cell(linux)
    // It is a clone itself, and has said so already when it is saved.
    await ask(cell, 'until dmesg | grep fork; do sleep 0.1; done', FORKED)
    const before = linux.output.length
    // Each connection is served by a process of its own, one after the other.
    await ask(cell, `vsock run ${GUEST_PORT} 99 sh -c cat &`, /vsock: (listening)\n/)
    cell.streams.push(await expectEcho(cell.vsock, 'first'))
    linux.type(`(echo first; sleep 9999) | vsock cat ${HOST_PORT} &`)
    while (cell.said.length === 0) await new Promise((go) => setTimeout(go, 5))
    // Kernel messages of this kind go to the console from now on.
    await ask(cell, 'dmesg -n 6; echo "told $((3*3))"', /^told (9)\n/m)
    await linux.vm.pause()
    address = (await linux.vm.state()).generationId?.device.address ?? 0
    linux.vm.resume()
    expect(linux.output.slice(before)).not.toMatch(FORKED)
    saved = await save(cell, 'first')
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('have generation IDs of their own, which their kernels know of, and random bytes of their own', async () => {
    const clones = [await restore(saved, 11), await restore(saved, 12)]
    const random = clones.map((clone) =>
      ask(
        clone,
        'echo "random $(head -c 16 /dev/urandom | od -An -tx1)"',
        /^random +((?:[0-9a-f]{2} ?){16})\n/m,
      ),
    )
    expect(new Set(await Promise.all(random)).size).toBe(2)
    expect(new Set(clones.map((clone) => generationId(clone, address))).size).toBe(2)
    for (const clone of clones) {
      await clone.linux.until(FORKED)
      clone.linux.vm.stop('seen')
      await clone.linux.ended
    }
  })

  test(`lose the connections that were open, and make new ones both ways, ${GENERATIONS} times over`, async () => {
    let path = saved
    for (let generation = 1; generation <= GENERATIONS; generation += 1) {
      const cell = await restore(path, FIRST_CID + generation)
      // At once: the guest may not have come to the reset of its device yet.
      const echo = expectEcho(cell.vsock, `to ${generation}`)
      echo.catch(() => {})
      await cell.linux.until(LOST_BOTH)
      cell.streams.push(await echo)
      cell.linux.type(`(echo from ${generation}; sleep 9999) | vsock cat ${HOST_PORT} &`)
      while (cell.said.length === 0) await new Promise((go) => setTimeout(go, 5))
      expect(cell.said).toEqual([`from ${generation}`])
      expect(cell.linux.warnings).toEqual([])
      path = await save(cell, `generation-${generation}`)
    }
  })
})

describeWithKvm('a clone with another disk and network', () => {
  const SECTOR_SIZE = 512
  const [SECTORS, MORE_SECTORS] = [2048, 4096]
  /** What is in a gratuitous ARP packet, behind 14 bytes of Ethernet. */
  const [ETHERTYPE_OFFSET, ETHERTYPE_ARP, SENDER_IP_OFFSET] = [12, 0x0806, 28]
  const [MAC, OTHER_MAC] = ['02:00:00:00:00:01', '02:00:00:00:00:02']

  test('takes the size of the disk, announces itself, and has the other MAC when its driver is bound anew', async () => {
    const path = mkdtempSync(join(tmpdir(), 'vmm-clone-'))
    const [before, announced]: [string[], string[]] = [[], []]
    const devices = (sectors: number, mac: string, announced: string[]): AttachDevice[] => [
      (host) => host.virtio.attach(new Blk({ disk: new BufferDisk(new Uint8Array(sectors * SECTOR_SIZE)) })),
      (host) => {
        const network = new UserNetwork({
          receive: (frame) => {
            const bytes = Buffer.from(frame)
            if (bytes.readUInt16BE(ETHERTYPE_OFFSET) !== ETHERTYPE_ARP) return
            announced.push(bytes.subarray(SENDER_IP_OFFSET, SENDER_IP_OFFSET + 4).join('.'))
          },
        })
        host.virtio.attach(new Net({ network, mac }))
      },
    ]
    try {
      const linux = await LinuxVm.start({ devices: devices(SECTORS, MAC, before), shape: 'disk and net' })
      linux.type('ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up')
      linux.type('echo "$(cat /sys/block/vda/size) sectors"')
      await linux.until(new RegExp(`^${SECTORS} sectors\\n`, 'm'))
      await linux.vm.pause()
      await writeSnapshot(path, { state: stateToJson(await linux.vm.state()), memory: linux.vm.memory })
      linux.vm.stop('saved')
      await linux.ended
      // It had no address when it went on.
      expect(before).toEqual([])

      const snapshot = Snapshot.open(path)
      const clone = await LinuxVm.restore(stateFromJson(snapshot.state), snapshot.mapMemory(), {
        devices: devices(MORE_SECTORS, OTHER_MAC, announced),
      })
      snapshot.close()
      while (announced.length === 0) await new Promise((go) => setTimeout(go, 5))
      expect(announced[0]).toBe('10.0.0.2')
      clone.type('echo "$(cat /sys/block/vda/size) sectors"')
      await clone.until(new RegExp(`^${MORE_SECTORS} sectors\\n`, 'm'))
      clone.type('mac() { echo "mac $(cat /sys/class/net/eth0/address)"; }; mac')
      await clone.until(new RegExp(`^mac ${MAC}\\n`, 'm'))
      clone.type(
        'cd /sys/bus/virtio/drivers/virtio_net; for i in virtio*; do echo $i >unbind; echo $i >bind; done; mac',
      )
      await clone.until(new RegExp(`^mac ${OTHER_MAC}\\n`, 'm'))
      clone.vm.stop('seen')
      await clone.ended
    } finally {
      rmSync(path, { recursive: true })
    }
  })
})
