/**
 * The attack on virtio-blk (packages/devices/test/virtio/hostile-suite.ts) over disks in files: each engine, over memory with an
 * address in this process, which the kernel reads and writes, and without one.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { type DiskEngine, openDisk } from '@vmm/block'
import { type Blk, SECTOR_SIZE } from '@vmm/devices/virtio'
import { Mapping } from '@vmm/sys-util'
import { afterAll, beforeAll, expect } from 'vitest'
import type { Target } from '../../packages/devices/test/virtio/hostile-attack.ts'
import { BLOCK_REQUESTS, diskVictim } from '../../packages/devices/test/virtio/hostile-disk-targets.ts'
import { HostileMemory } from '../../packages/devices/test/virtio/hostile-memory.ts'
import { describeAttacks } from '../../packages/devices/test/virtio/hostile-suite.ts'

const DISK_BYTES = 8 * SECTOR_SIZE

let folder: string
let made = 0

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmm-hostile-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function mapped(size: number) {
  const mapping = new Mapping({ size })
  return { buffer: mapping.view(), hostAddress: mapping.address, close: () => mapping.close() }
}

function target(engine: DiskEngine, isMapped: boolean): Target<Blk> {
  return {
    name: `virtio-blk over a file, engine ${engine}, ${isMapped ? 'mapped' : 'plain'} memory`,
    requests: BLOCK_REQUESTS,
    ...(isMapped ? { memory: () => new HostileMemory(mapped) } : {}),
    make() {
      made += 1
      const path = join(folder, `${made}.img`)
      writeFileSync(path, new Uint8Array(DISK_BYTES))
      const disk = openDisk(path, { engine })
      const victim = diskVictim(disk, [])
      return {
        ...victim,
        turn: () => setImmediate(),
        check() {
          victim.check?.()
          expect(readFileSync(path).length).toBe(DISK_BYTES)
        },
        close() {
          disk.close()
          rmSync(path)
        },
      }
    },
  }
}

const ENGINES: readonly DiskEngine[] = ['sync', 'threads', 'io_uring']
const TARGETS = ENGINES.flatMap((engine) => [target(engine, true), target(engine, false)])

describeAttacks(TARGETS as unknown as readonly Target[], ['split'])
