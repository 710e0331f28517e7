// @vmm/microvm and @vmm/snapshot: a VM as a fixture of vitest. It is booted once; each test gets a copy of its own.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MicroVm, stateFromJson, stateToJson } from '@vmm/microvm'
import { Snapshot, writeSnapshot } from '@vmm/snapshot'
import { test as base, expect } from 'vitest'
import { Linux } from './linux.js'

const test = base
  // A folder with a Linux that has booted.
  // biome-ignore lint/correctness/noEmptyPattern: vitest reads from the pattern which fixtures it needs
  .extend('booted', { scope: 'file' }, async ({}, { onCleanup }) => {
    const folder = mkdtempSync(join(tmpdir(), 'booted-'))
    onCleanup(() => rmSync(folder, { recursive: true }))
    const linux = await Linux.boot()
    await linux.run('true')
    await linux.vm.pause()
    const state = stateToJson(await linux.vm.state())
    await writeSnapshot(folder, { state, memory: linux.vm.memory })
    await linux.close()
    return folder
  })
  // A VM of the test's own.
  .extend('guest', async ({ booted }, { onCleanup }) => {
    const snapshot = Snapshot.open(booted)
    const linux = await Linux.start((output) =>
      MicroVm.restore(stateFromJson(snapshot.state), snapshot.mapMemory(), { output }),
    )
    snapshot.close()
    onCleanup(() => linux.close())
    return linux
  })

test('a guest can lose its programs', async ({ guest }) => {
  await guest.run('rm -rf /bin')
  expect(await guest.run('ls /')).not.toContain('bin')
})

test('the next guest has them', async ({ guest }) => {
  expect(await guest.run('ls /')).toContain('bin')
  expect(await guest.run('uname -sm')).toBe('Linux x86_64\n')
})
