// @vmm/devices: a virtio device of your own, which gives text back in capitals. No VM, no KVM: a driver's stand-in uses it.
import { MOCK_QUEUE_BYTES, MockTransport } from '@vmm/devices/testing'
import { QueueRunner } from '@vmm/devices/virtio'
import { MockMemory } from '@vmm/virtio-queue/testing'

const TEXT_MAX = 1024
const QUEUE_SIZE = 16

/** @import { VirtioDevice, VirtioTransport } from '@vmm/devices/virtio' */
/** @import { DescriptorChain } from '@vmm/virtio-queue' */

/** @implements {VirtioDevice} */
class Capitals {
  type = 63 // which no device of the specification has
  featuresLow = 0
  featuresHigh = 0
  queueSizes = [QUEUE_SIZE]
  config = new Uint8Array(0)
  /** @type {QueueRunner | undefined} */
  #runner

  /** @param {VirtioTransport} transport */
  attach(transport) {
    this.#runner = new QueueRunner(transport, 0, { serve: (chain) => this.#serve(chain) }, QUEUE_SIZE)
  }

  notify() {
    this.#runner?.run()
  }

  reset() {}

  /** @param {DescriptorChain} chain */
  #serve(chain) {
    // The guest is not to be trusted: what it sends is bounded before a buffer is made for it.
    const text = new Uint8Array(Math.min(chain.readableBytes, TEXT_MAX))
    chain.reader().readFull(text)
    const capitals = new TextDecoder().decode(text).toUpperCase()
    return chain.writer().write(new TextEncoder().encode(capitals))
  }
}

const device = new Capitals() // in a VM: devices: [(host) => host.virtio.attach(new Capitals())]
const memory = new MockMemory([{ start: 0, size: MOCK_QUEUE_BYTES }])
const { drivers } = new MockTransport(device, memory)
const question = new TextEncoder().encode('hello from a driver')
const [address = 0, answer = 0] = [drivers[0]?.allocate(64), drivers[0]?.allocate(64)]
memory.write(address, question)
drivers[0]?.send([
  { address, length: question.length },
  { address: answer, length: 64, writable: true },
])
device.notify()
const length = drivers[0]?.reap()?.length ?? 0
console.log(new TextDecoder().decode(memory.read(answer, length)))
