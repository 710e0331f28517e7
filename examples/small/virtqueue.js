// @vmm/virtio-queue: the device side of a virtqueue, in plain memory. One request is looked at descriptor by
// descriptor and answered; one is malformed, which is no exception.
import { DescriptorChain, faultOf, POP_EMPTY, POP_OK } from '@vmm/virtio-queue'
import { createMockDriver, MockMemory } from '@vmm/virtio-queue/testing'

// The driver's side. In a VM the guest's kernel does this; here its stand-in.
const memory = new MockMemory()
const driver = createMockDriver({ memory, size: 8 })
const text = driver.allocate(32)
const answer = driver.allocate(32)
memory.write(text, new TextEncoder().encode('how many letters?'))
driver.send([
  { address: text, length: 3 },
  { address: text + 3, length: 14 },
  { address: answer, length: 32, writable: true },
])
driver.send([{ address: 0xdead_0000, length: 16 }]) // an address that is no memory
const queue = driver.activate()

// The device's side.
const chain = new DescriptorChain()
for (let result = queue.pop(chain); result !== POP_EMPTY; result = queue.pop(chain)) {
  if (result !== POP_OK) {
    console.log(`a bad request: ${faultOf(result)?.message}`)
    queue.addUsed(chain, 0)
    continue
  }
  for (let i = 0; i < chain.segmentCount; i++) {
    console.log(
      `${i < chain.readableCount ? 'to read' : 'to write'}: ${chain.lengths[i]} bytes at ${chain.offsets[i]}`,
    )
  }
  const request = new Uint8Array(chain.readableBytes)
  chain.reader().readFull(request)
  const letters = new TextDecoder().decode(request).replace(/[^a-z]/g, '').length
  queue.addUsed(chain, chain.writer().write(new TextEncoder().encode(`${letters} letters`)))
}

for (const { token, length } of driver.reapAll()) {
  const bytes = memory.read(answer, length)
  console.log(`request ${token} is back with ${length} bytes: '${new TextDecoder().decode(bytes)}'`)
}
