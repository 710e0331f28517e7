/**
 * Memory on demand whose pages cannot be had any more reads as zeros: no snapshot is made of those.
 */
import { guestAddress } from '@vmm/vm-memory'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { own, temporaryDirectory } from '../../../tests/support/own.ts'
import { bundleOnDemand, noUserFaultFd } from '../../vm-memory/test/on-demand-bundle.ts'
import { Snapshot, writeSnapshot } from '../src/index.ts'

const PAGE = 4096
const GOOD = 16 * PAGE
/** What is above {@link GOOD} cannot be had. */
const PAGES = `export default () => ({
  fill(address, into) {
    if (address >= ${GOOD}) throw new Error('the network is down')
    into.fill(7)
    return into.length
  },
})`

let bundled: Awaited<ReturnType<typeof bundleOnDemand>>

describe.skipIf(noUserFaultFd.includes('skipped'))(`memory on demand${noUserFaultFd}`, () => {
  beforeAll(async () => {
    bundled = await bundleOnDemand()
  })
  afterAll(() => bundled.remove())

  test('that lacks a page is not saved in the place of what is whole', async () => {
    const folder = temporaryDirectory()
    const module = new URL(`data:text/javascript,${encodeURIComponent(PAGES)}`)
    const server = await bundled.module.PageServer.start(module, { window: PAGE })
    try {
      const whole = server.map([{ start: 0, size: GOOD }])
      await writeSnapshot(folder, { state: 'whole', memory: whole.memory })
      whole.close()
      const lacking = server.map([{ start: 0, size: GOOD + PAGE }])
      const failed = writeSnapshot(folder, { state: 'lacking', memory: lacking.memory })
      await expect(failed).rejects.toMatchObject({
        code: 'ERR_SNAPSHOT_IO',
        message: expect.stringMatching(/the network is down$/),
      })
      expect(lacking.memory.regions[0]?.failure?.()).toBe(lacking.failure)
      lacking.close()
      const snapshot = own(Snapshot.open(folder))
      expect(snapshot.state).toBe('whole')
      expect(own(snapshot.mapMemory()).memory.readUint8(guestAddress(GOOD - 1))).toBe(7)
    } finally {
      await server.close()
    }
  })
})
