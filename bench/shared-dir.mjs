/**
 * What a shared directory costs per FUSE request, through virtio-fs: queue, device, system calls. Against Node's own synchronous
 * calls on the same files in the same run, which are the floor of the host's side: no queue, no guest memory.
 *
 * `node bench/shared-dir.mjs` after `npm run build` prints a table.
 */
import {
  closeSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FuseClient, fuseArguments } from '../packages/devices/dist/testing.js'
import { Fs } from '../packages/devices/dist/virtio.js'
import { SharedDirectory } from '../packages/shared-dir/dist/index.js'
import { MappedMemory } from '../packages/vm-memory/dist/mmap.js'
import { printIfMain, row } from './support/report.mjs'

const MEMORY_BYTES = 1 << 25
const FILES = 64
const FILE_BYTES = 1 << 20
const BATCH = 32
const ROUNDS = 60
const LOOKUP = 1
const GETATTR = 3
const READ = 15
const WRITE = 16
const READDIRPLUS = 44
const OPENDIR = 27
const ROOT = 1
const O_RDWR = 2
const MIB = 2 ** 20

/** The best of many rounds of a batch, in microseconds a request. */
async function measure(batch, perBatch = BATCH) {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = process.hrtime.bigint()
    await batch()
    best = Math.min(best, Number(process.hrtime.bigint() - start))
  }
  return best / 1000 / perBatch
}

/**
 * A guest with a batch of requests laid out in its memory once: sending them again is one index of the available ring, so that
 * what is measured is the device.
 */
class Batch {
  constructor(client, requests, room) {
    const driver = client.transport.drivers[1]
    const { memory } = client.transport
    this.client = client
    this.driver = driver
    const region = memory.findRegion(0)
    this.bytes = region.bytes
    let at = MIB
    this.buffers = requests.map((request) => {
      const address = at
      region.bytes.set(request, address)
      at += Math.ceil((request.length + room) / 64) * 64
      return [
        { address, length: request.length },
        { address: address + request.length, length: room, writable: true },
      ]
    })
  }

  run() {
    const { driver, client, buffers } = this
    for (const chain of buffers) driver.add(chain)
    driver.publish()
    client.transport.onInterrupt = () => {}
    client.device.notify(1)
    let answered = 0
    while (answered < buffers.length) {
      const used = driver.reap()
      if (used === undefined) throw new Error('a request was not answered at once')
      answered += 1
    }
  }
}

const request = (opcode, node, ...values) => {
  const body = fuseArguments(...values)
  return Buffer.concat([fuseArguments(40 + body.length, opcode, 1n, BigInt(node), 0, 0, 0, 0), body])
}

export async function run() {
  const folder = mkdtempSync(join(tmpdir(), 'vmm-bench-share-'))
  const names = Array.from({ length: FILES }, (_, i) => `file-${i}`)
  const path = join(folder, 'share')
  mkdirSync(path)
  for (const name of names) writeFileSync(join(path, name), Buffer.alloc(FILE_BYTES, name))
  const share = new SharedDirectory(path)
  const memory = MappedMemory.anonymous([{ start: 0, size: MEMORY_BYTES }])
  const device = new Fs({ tag: 'bench', fileSystem: share })
  const client = new FuseClient(device, memory.memory)
  client.device = device
  const rows = []
  const add = (name, figure, peerFigure, peer) =>
    rows.push(row({ name, figure, unit: 'us', peer, peerFigure }))
  try {
    await client.init()
    const ids = []
    for (const name of names) ids.push((await client.lookup(ROOT, name)).id)
    const handle = await client.open(ids[0], O_RDWR)
    const listing = await client.open(ROOT, 0, OPENDIR)
    const each = (make) => Array.from({ length: BATCH }, (_, i) => make(i))
    const time = (requests, room) => {
      const batch = new Batch(client, requests, room)
      return measure(() => batch.run(), requests.length)
    }
    const host = (call) =>
      measure(() => {
        for (let i = 0; i < BATCH; i += 1) call(i)
      })
    const file = openSync(join(path, names[0]), 'r+')
    const buffer = Buffer.alloc(MIB)
    try {
      const read = (length) =>
        each((i) =>
          request(READ, ids[0], BigInt(handle), BigInt((i * length) % FILE_BYTES), length, 0, 0n, 0, 0),
        )
      add(
        'shared directory: LOOKUP',
        await time(
          each((i) => request(LOOKUP, ROOT, names[i])),
          160,
        ),
        await host((i) => statSync(join(path, names[i]))),
        'fs.statSync',
      )
      add(
        'shared directory: GETATTR',
        await time(
          each((i) => request(GETATTR, ids[i], 0, 0, 0n)),
          160,
        ),
        await host(() => fstatSync(file)),
        'fs.fstatSync',
      )
      add(
        'shared directory: READ of 4 KiB',
        await time(read(4096), 4096 + 16),
        await host((i) => readSync(file, buffer, 0, 4096, i * 4096)),
        'fs.readSync',
      )
      add(
        'shared directory: READ of 128 KiB',
        await time(read(131072), 131072 + 16),
        await host((i) => readSync(file, buffer, 0, 131072, (i * 131072) % FILE_BYTES)),
        'fs.readSync',
      )
      const write = each((i) =>
        request(WRITE, ids[0], BigInt(handle), BigInt(i * 4096), 4096, 0, 0n, 0, 0, buffer.subarray(0, 4096)),
      )
      add(
        'shared directory: WRITE of 4 KiB',
        await time(write, 24),
        await host((i) => writeSync(file, buffer, 0, 4096, i * 4096)),
        'fs.writeSync',
      )
      const plus = each(() => request(READDIRPLUS, ROOT, BigInt(listing), 0n, 4096, 0, 0n, 0, 0))
      const entries = Math.floor(4096 / 160)
      add(
        `shared directory: READDIRPLUS, of ${entries} entries`,
        await time(plus, 4096 + 16),
        entries * (await host((i) => statSync(join(path, names[i])))),
        'fs.statSync of as many',
      )
    } finally {
      closeSync(file)
    }
  } finally {
    client.transport.reset()
    share.close()
    memory.close()
    rmSync(folder, { recursive: true })
  }
  return rows
}

await printIfMain(import.meta, run)
