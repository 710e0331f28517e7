/**
 * The saved state of a file system device, and what must hold of one that comes from a file. It has no path: each file is a name
 * in a directory that stands before it in the list.
 */
import { StateChecker } from '../../state.ts'
import { FUSE_ROOT_ID, NAME_MAX, O_ACCMODE } from './spec.ts'

/** The directory of {@link SavedNode} that is mounted. */
export const ROOT_INDEX = -1
/** The most characters of {@link SavedNode.identity}. */
export const IDENTITY_MAX = 128
/** Numbers of nodes and handles stay exact for as long as anybody could count on from here. */
const NUMBER_MAX = 2 ** 52
const SLASH = 0x2f

/** A file that the guest knows, or a directory on the way to one. */
export interface SavedNode {
  /** What the guest knows it by; 0 for one that is only on the way. */
  readonly id: number
  /** How often the guest was given it; 0 for one that is only on the way. */
  readonly lookups: number
  /** Where its directory is in the list, before it; -1 for the root. */
  readonly directory: number
  /** Its name there: bytes, a character each. */
  readonly name: string
  /** The file system's own, see `NodeLocation`. */
  readonly identity: string
}

/** What the guest has open. */
export interface SavedHandle {
  readonly id: number
  /** The number of its node; 1 for the root. */
  readonly node: number
  readonly isDirectory: boolean
  /** O_RDONLY, O_WRONLY or O_RDWR. */
  readonly access: number
}

/** What a guest knows of a file system that it has mounted. */
export interface FsMountState {
  /** The numbers that come next: none is given twice. */
  readonly nextNode: number
  readonly nextHandle: number
  readonly nodes: readonly SavedNode[]
  readonly handles: readonly SavedHandle[]
}

/** What {@link Fs.state} returns: plain data that survives JSON. */
export interface FsState {
  readonly version: 1
  /** Missing where the guest has not mounted it. */
  readonly mount?: FsMountState | undefined
}

/** How much a device takes. */
export interface MountLimits {
  readonly nodes: number
  readonly handles: number
}

/**
 * @returns undefined for a device that was not mounted
 * @throws DevicesError ERR_DEVICE_STATE
 */
export function checkFsState(state: unknown, limits: MountLimits): FsMountState | undefined {
  new StateChecker('virtio-fs', state as object).version(1)
  const { mount } = state as FsState
  if (mount === undefined) return undefined
  const check = new StateChecker('virtio-fs mount', mount)
  const nextNode = check.integer('nextNode', FUSE_ROOT_ID + 1, NUMBER_MAX)
  const nextHandle = check.integer('nextHandle', 1, NUMBER_MAX)
  // As many again may be on the way to those that are known.
  const nodes = list(check, 'nodes', mount.nodes, 2 * limits.nodes)
  const handles = list(check, 'handles', mount.handles, limits.handles)
  const result: FsMountState = {
    nextNode,
    nextHandle,
    nodes: nodes.map((node, index) => checkNode(node, index, nextNode)),
    handles: handles.map((handle, index) => checkHandle(handle, index, { nextNode, nextHandle })),
  }
  const known = result.nodes.filter(({ id }) => id !== 0)
  if (known.length > limits.nodes) check.refuse('nodes', `${limits.nodes} files that are known at most`)
  checkDistinct(check, 'nodes', known)
  checkDistinct(check, 'handles', result.handles)
  return result
}

function list(check: StateChecker, field: string, value: unknown, most: number): readonly object[] {
  if (Array.isArray(value) && value.length <= most) return value
  return check.refuse(field, `an array of up to ${most}`)
}

function checkNode(state: object, index: number, nextNode: number): SavedNode {
  const check = new StateChecker(`virtio-fs node ${index}`, state)
  const { name, identity } = state as SavedNode
  const id = check.integer('id', 0, nextNode - 1)
  if (id === FUSE_ROOT_ID) check.refuse('id', 'another than the root’s')
  if (!isName(name)) check.refuse('name', 'a name of a file')
  if (typeof identity !== 'string' || identity.length > IDENTITY_MAX) {
    check.refuse('identity', `a string of up to ${IDENTITY_MAX} characters`)
  }
  return {
    id,
    lookups: check.integer('lookups', id === 0 ? 0 : 1, id === 0 ? 0 : Number.MAX_SAFE_INTEGER),
    directory: check.integer('directory', ROOT_INDEX, index - 1),
    name,
    identity,
  }
}

function checkHandle(
  state: object,
  index: number,
  { nextNode, nextHandle }: Pick<FsMountState, 'nextNode' | 'nextHandle'>,
): SavedHandle {
  const check = new StateChecker(`virtio-fs handle ${index}`, state)
  return {
    id: check.integer('id', 1, nextHandle - 1),
    node: check.integer('node', FUSE_ROOT_ID, nextNode - 1),
    isDirectory: check.boolean('isDirectory'),
    access: check.bits('access', O_ACCMODE),
  }
}

function checkDistinct(check: StateChecker, field: string, list: readonly { readonly id: number }[]): void {
  if (new Set(list.map(({ id }) => id)).size < list.length)
    check.refuse(field, 'an array of distinct numbers')
}

/** Bytes as characters; as a name that comes from the guest. */
function isName(name: unknown): name is string {
  if (typeof name !== 'string' || name.length === 0 || name.length > NAME_MAX) return false
  if (name === '.' || name === '..') return false
  for (let i = 0; i < name.length; i += 1) {
    const byte = name.charCodeAt(i)
    if (byte === 0 || byte === SLASH || byte > 0xff) return false
  }
  return true
}
