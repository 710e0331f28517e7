/**
 * The thread that serves faults: the entry point of a worker. It runs no code of others and waits for nothing, so that
 * whoever touches a missing page gets an answer, whatever the provider does.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { Pager } from './pager.ts'
import type { FaultThreadData, FaultThreadMessage, OwnerMessage } from './protocol.ts'
import { ProviderLink } from './provider-link.ts'

function raise(flag: Int32Array<SharedArrayBuffer>): void {
  Atomics.store(flag, 0, 1)
  Atomics.notify(flag, 0)
}

function serve(port: MessagePort, { provider, window, timeoutMs, ownerThread }: FaultThreadData): void {
  const pagers = new Map<number, Pager>()
  const tell = (message: FaultThreadMessage) => port.postMessage(message)
  const link = new ProviderLink({
    source: provider,
    timeoutMs,
    ready: () => tell({ kind: 'ready' }),
    gone: (failure) => {
      tell({ kind: 'gone', failure })
      for (const pager of pagers.values()) pager.fail(failure)
    },
  })
  port.on('message', async (message: OwnerMessage) => {
    switch (message.kind) {
      case 'serve': {
        const { id, fd, ranges } = message
        const pager = new Pager({
          fd,
          ranges,
          window,
          ownerThread,
          fill: (address, size) => link.fill(address, size),
          failed: (failure) => tell({ kind: 'failed', id, failure }),
        })
        pagers.set(id, pager)
        return
      }
      case 'release':
        return pagers.get(message.id)?.release()
      case 'forget':
        pagers.get(message.id)?.close()
        pagers.delete(message.id)
        return raise(message.done)
      case 'close':
        for (const pager of pagers.values()) pager.close()
        pagers.clear()
        raise(message.done)
        await link.close()
        port.close()
    }
  })
}

if (parentPort !== null) serve(parentPort, workerData as FaultThreadData)
