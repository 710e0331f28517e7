/** Listens on a Unix socket, in the place of one that a VMM has left behind, but of nothing else. */
import { Buffer } from 'node:buffer'
import { once } from 'node:events'
import { lstatSync, rmSync, statSync } from 'node:fs'
import { createConnection, type Server } from 'node:net'
import { dirname } from 'node:path'
import { VsockError } from './error.ts'

/** The longest name of a Unix socket, in bytes: `sun_path` less the NUL at its end (unix(7)). */
export const UNIX_PATH_MAX_BYTES = 107

/** Whether a name fits a socket. */
export function fitsSocket(path: string): boolean {
  const bytes = Buffer.byteLength(path)
  return bytes > 0 && bytes <= UNIX_PATH_MAX_BYTES && !path.includes('\0')
}

/** @throws VsockError */
export async function listenOn(server: Server, path: string): Promise<void> {
  if (!fitsSocket(path)) {
    const bytes = Buffer.byteLength(path)
    throw new VsockError(
      'ERR_VSOCK_PATH_LENGTH',
      path,
      `has a name of ${bytes} bytes, 1 to ${UNIX_PATH_MAX_BYTES} without a NUL are possible`,
    )
  }
  const first = await tryToListen(server, path)
  if (first === undefined) return
  if (first.code !== 'EADDRINUSE') throw refusal(path, first)
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) {
    throw new VsockError('ERR_VSOCK_PATH_TAKEN', path, 'cannot be made: there is something else of that name')
  }
  if (await isAnswered(path)) {
    throw new VsockError(
      'ERR_VSOCK_PATH_IN_USE',
      path,
      'is in use: somebody listens on it, perhaps another VM',
    )
  }
  rmSync(path, { force: true })
  const second = await tryToListen(server, path)
  if (second !== undefined) throw refusal(path, second)
}

/** @returns what is in the way */
async function tryToListen(server: Server, path: string): Promise<NodeJS.ErrnoException | undefined> {
  try {
    server.listen(path)
    await once(server, 'listening')
    return undefined
  } catch (error) {
    return error as NodeJS.ErrnoException
  }
}

/** Whether anybody accepts connections. A socket that a dead process has left behind refuses them. */
async function isAnswered(path: string): Promise<boolean> {
  const socket = createConnection(path)
  try {
    await once(socket, 'connect')
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ECONNREFUSED'
  } finally {
    socket.destroy()
  }
}

function refusal(path: string, cause: NodeJS.ErrnoException): VsockError {
  // libuv says EACCES where there is no directory.
  if (!statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory()) {
    return new VsockError('ERR_VSOCK_PATH_DIRECTORY', path, 'is in no directory', cause)
  }
  if (cause.code === 'EADDRINUSE') {
    return new VsockError('ERR_VSOCK_PATH_IN_USE', path, 'is in use: somebody else took it just now', cause)
  }
  return new VsockError(
    'ERR_VSOCK_LISTEN',
    path,
    `cannot be listened on: ${cause.code ?? cause.message}`,
    cause,
  )
}
