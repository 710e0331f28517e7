/** A process that is killed while it writes snapshots, again and again: the built package, since it is another process. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Snapshot } from '../src/index.ts'

const KILLS = 50
const KILL_WITHIN_MS = 60
const PAGES = 64
const PAGE = 4096

/** Snapshot number n has n everywhere; every other one is differential to the one before. */
const WRITER = `
import { Snapshot, writeSnapshot } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)}
import { MappedMemory } from ${JSON.stringify(new URL('../../vm-memory/dist/mmap.js', import.meta.url).href)}
const ram = MappedMemory.anonymous([{ start: 0, size: ${PAGES * PAGE} }])
for (let number = Number(process.argv[3]); ; number++) {
  ram.memory.fill(0, ${PAGES * PAGE}, number % 251 + 1)
  await writeSnapshot(process.argv[2], { state: { number }, memory: ram.memory, differential: number % 2 === 0 })
  const snapshot = Snapshot.open(process.argv[2])
  snapshot.rebase(ram)
  snapshot.close()
  process.stdout.write(number + '\\n')
}
`

test(`leaves a whole snapshot, the last one that was done or a later one, ${KILLS} times`, async () => {
  const base = mkdtempSync(join(tmpdir(), 'vmm-snapshot-kill-'))
  const folder = join(base, 'snapshot')
  const script = join(base, 'writer.mjs')
  writeFileSync(script, WRITER)
  let number = 1
  try {
    for (let kill = 0; kill < KILLS; kill++) {
      const writer = spawn(process.execPath, [script, folder, String(number)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let output = ''
      writer.stdout.on('data', (data: Buffer) => {
        output += data.toString()
      })
      const closed = once(writer, 'close')
      await once(writer.stdout, 'data')
      const delay = Math.random() * KILL_WITHIN_MS
      await sleep(delay)
      writer.kill('SIGKILL')
      await closed
      const done = Number(output.slice(0, output.lastIndexOf('\n')).split('\n').at(-1))
      const snapshot = Snapshot.open(folder)
      const memory = snapshot.mapMemory()
      number = (snapshot.state as { number: number }).number
      expect(number, `killed after ${delay} ms`).toBeGreaterThanOrEqual(done)
      const expected = Buffer.alloc(PAGES * PAGE, (number % 251) + 1)
      expect(expected.equals(memory.memory.regions[0]?.bytes ?? expected.subarray(1))).toBe(true)
      memory.close()
      snapshot.close()
      number++
    }
    // What the dead have left is bounded by one attempt: manifest, state, and two files for each of two layers.
    expect(readdirSync(folder).length).toBeLessThanOrEqual(12)
  } finally {
    rmSync(base, { recursive: true })
  }
})
