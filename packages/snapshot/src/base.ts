/**
 * The layers that a differential snapshot lies upon: the files of the snapshot that memory comes from, which become the new
 * one's as well.
 */
import { link, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { GuestMemory } from '@vmm/vm-memory'
import type { Identity } from './folder.ts'
import { readChecked } from './folder.ts'
import { LAYERS_MAX, type SnapshotLayer } from './manifest.ts'
import { originOf } from './origin.ts'

/**
 * Has a folder have the layers that memory comes from.
 * @returns none where there are none, too many, or they are not to be had any more
 */
export async function baseLayers(folder: string, memory: GuestMemory): Promise<readonly SnapshotLayer[]> {
  const origin = originOf(memory)
  if (origin === undefined) return []
  const { layers } = origin.manifest.memory
  if (layers.length >= LAYERS_MAX) return []
  try {
    for (const [index, { file, runs }] of layers.entries()) {
      const shared = await share(origin.folder, folder, file)
      if (!isSame(shared, origin.identities[index])) return []
      if (runs === undefined) continue
      await share(origin.folder, folder, runs.file)
      readChecked(folder, runs)
    }
    return layers
  } catch {
    // Gone, damaged, or out of reach of a link: a whole snapshot needs none of them.
    return []
  }
}

async function share(from: string, to: string, name: string): Promise<Identity> {
  const target = join(to, name)
  if (resolve(from) !== resolve(to)) {
    await link(join(from, name), target).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
  }
  return stat(target)
}

function isSame(found: Identity, mapped: Identity | undefined): boolean {
  return found.dev === mapped?.dev && found.ino === mapped.ino
}
