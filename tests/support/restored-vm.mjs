/**
 * A VMM in a process of its own, to be killed: goes on with a saved VM that has one disk.
 *
 *   node restored-vm.mjs SNAPSHOT DISK
 *
 * The guest's serial port is standard input and output. It is made of the built packages.
 */
import { openDisk } from '@vmm/block'
import { connectInput } from '@vmm/devices'
import { Blk } from '@vmm/devices/virtio'
import { MicroVm, stateFromJson } from '@vmm/microvm'
import { Snapshot } from '@vmm/snapshot'

const [folder, image] = process.argv.slice(2)
const snapshot = Snapshot.open(folder)
const vm = await MicroVm.restore(stateFromJson(snapshot.state), snapshot.mapMemory(), {
  devices: [(host) => host.virtio.attach(new Blk({ disk: host.own(openDisk(image)) }))],
  output: process.stdout,
})
snapshot.close()
connectInput(process.stdin, vm.serial)
const { reason } = await vm.run()
vm.close()
process.stderr.write(`${reason}\n`)
process.exit(1)
