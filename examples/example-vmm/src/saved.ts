/**
 * What example-vmm writes into a snapshot, and reads as it would from a stranger: the VM's state, and its devices as
 * arguments.
 */
import { type MicroVm, stateToJson } from '@vmm/microvm'
import type { Snapshot } from '@vmm/snapshot'
import { UsageError } from './errors.ts'

/** A saved VM. */
export interface Saved {
  /** Options for its devices. */
  readonly deviceArguments: readonly string[]
  /** As `stateFromJson` takes it. */
  readonly vm: unknown
}

/** The state of a VM that is paused. */
export async function savedState(vm: MicroVm, deviceArguments: readonly string[]): Promise<Saved> {
  return { deviceArguments, vm: stateToJson(await vm.state()) }
}

/** @throws UsageError for what was not written by {@link savedState} */
export function readSaved({ state }: Snapshot, folder: string): Saved {
  const { deviceArguments, vm } = (state ?? {}) as Partial<Saved>
  const isSaved = Array.isArray(deviceArguments) && deviceArguments.every((text) => typeof text === 'string')
  if (isSaved) return { deviceArguments, vm }
  throw new UsageError(`${folder}: the snapshot is not one of example-vmm`)
}
