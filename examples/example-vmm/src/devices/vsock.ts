/**
 * `--vsock cid=N,uds=PATH`: sockets between guest and host, as Firecracker has them: who connects to PATH and says
 * `CONNECT port` is put through to the guest; the guest reaches who listens on PATH_port.
 */
import { Vsock } from '@vmm/devices/virtio'
import type { AttachDevice } from '@vmm/microvm'
import { UnixSocketBridge } from '@vmm/vsock'
import { InvalidArgumentError } from 'commander'
import { type AsGiven, KeyValues } from './key-values.ts'

/** The guest's sockets, as they were asked for. */
export interface VsockOption extends AsGiven {
  /** The guest's address. */
  readonly cid: number
  /** The path of the Unix socket. */
  readonly path: string
}

/** 0 to 2 are the hypervisor, the guest itself and the host; the highest is nobody's. */
const CIDS = { least: 3, most: 2 ** 32 - 2 }

/** Linux drives one. */
export function parseVsock(text: string, before?: VsockOption): VsockOption {
  if (before !== undefined) throw new InvalidArgumentError('Expected one --vsock, got more.')
  const values = new KeyValues(text, ['cid', 'uds'])
  const cid = values.wholeNumber('cid', CIDS)
  if (cid === undefined) throw new InvalidArgumentError('Expected cid=N.')
  return { text, cid, path: values.required('uds', 'PATH') }
}

/** The device, with its Unix socket in front. */
export function vsockDevice({ cid, path }: VsockOption): AttachDevice {
  return async (host) => {
    const vsock = new Vsock({ guestCid: cid })
    host.virtio.attach(vsock)
    host.own(vsock)
    host.own(await UnixSocketBridge.listen({ vsock, path, onError: ({ message }) => host.warn(message) }))
  }
}
