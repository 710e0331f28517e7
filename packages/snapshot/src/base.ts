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
 * @param linked takes the names of the files that were not in the folder before
 * @returns none where there are none, too many, or they are not to be had any more
 */
export async function baseLayers(
  folder: string,
  memory: GuestMemory,
  linked: Set<string>,
): Promise<readonly SnapshotLayer[]> {
  const origin = originOf(memory)
  if (origin === undefined) return []
  const { layers } = origin.manifest.memory
  if (layers.length >= LAYERS_MAX) return []
  const share = async (name: string): Promise<Identity> => {
    const target = join(folder, name)
    if (resolve(origin.folder) !== resolve(folder) && (await isLinked(join(origin.folder, name), target))) {
      linked.add(name)
    }
    return stat(target)
  }
  try {
    for (const [index, { file, runs }] of layers.entries()) {
      const shared = await share(file)
      if (!isSame(shared, origin.identities[index])) return []
      if (runs === undefined) continue
      await share(runs.file)
      readChecked(folder, runs)
    }
    return layers
  } catch {
    // Gone, damaged, or out of reach of a link: a whole snapshot needs none of them.
    return []
  }
}

/** Links a file. @returns false where one of that name is there already */
async function isLinked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function isSame(found: Identity, mapped: Identity | undefined): boolean {
  return found.dev === mapped?.dev && found.ino === mapped.ino
}
