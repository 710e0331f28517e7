/** The options of a shared directory, and their defaults. */
import { SharedDirectoryError } from './error.ts'

/** A user and a group, as the guest numbers them. */
export interface GuestOwner {
  /** 0 is root. */
  readonly uid: number
  /** 0 is root's group. */
  readonly gid: number
}

/** How to share a directory. */
export interface SharedDirectoryOptions {
  /** Whether nothing is to be changed: no file is opened for writing then, whatever the guest asks. Default false. */
  readonly readOnly?: boolean | undefined
  /**
   * For how long the guest may take names and attributes for right without asking, in seconds: what the host changes is seen at
   * the latest then, and at the next open of a file. Default 1.
   */
  readonly cacheSeconds?: number | undefined
  /**
   * Whom the guest takes for the owner of what belongs to this process's user and group; what belongs to others is nobody's (65534)
   * there. Default root and its group.
   */
  readonly owner?: GuestOwner | undefined
  /** Whether the guest gets to see what is mounted inside the directory; else such places are EXDEV. Default false. */
  readonly crossMounts?: boolean | undefined
  /**
   * Descriptors to keep for files that the guest knows, 16 or more, beside one for each that it has open. More make it
   * faster in trees that are larger. Default 1024.
   */
  readonly maxDescriptors?: number | undefined
}

/** Options with their defaults, checked. */
export type SharedDirectorySettings = {
  readonly [K in keyof SharedDirectoryOptions]-?: NonNullable<SharedDirectoryOptions[K]>
}

const ID_MAX = 2 ** 32 - 2

/** @throws SharedDirectoryError ERR_SHARED_DIR_OPTION */
export function sharedDirectorySettings(
  path: string,
  options: SharedDirectoryOptions,
): SharedDirectorySettings {
  const { readOnly = false, cacheSeconds = 1, owner = { uid: 0, gid: 0 }, crossMounts = false } = options
  const { maxDescriptors = 1024 } = options
  const refuse = (what: string) => new SharedDirectoryError('ERR_SHARED_DIR_OPTION', path, what)
  if (!(cacheSeconds >= 0)) throw refuse(`has 0 or more cacheSeconds, got ${cacheSeconds}`)
  if (!isWhole(maxDescriptors, 16, 2 ** 20))
    throw refuse(`has 16 to 2^20 maxDescriptors, got ${maxDescriptors}`)
  if (!isWhole(owner.uid, 0, ID_MAX) || !isWhole(owner.gid, 0, ID_MAX)) {
    throw refuse(`has an owner of 32-bit numbers, got ${owner.uid}:${owner.gid}`)
  }
  return { readOnly, cacheSeconds, owner, crossMounts, maxDescriptors }
}

function isWhole(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most
}
