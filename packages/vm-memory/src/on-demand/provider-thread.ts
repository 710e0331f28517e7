/**
 * The thread that runs a provider: the entry point of a worker.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { type ProviderReply, type ProviderRequest, type ProviderSource, postable } from './protocol.ts'
import type { PageProvider } from './provider.ts'

async function openProvider({ module, data }: ProviderSource): Promise<PageProvider> {
  const exports = await import(module)
  if (typeof exports.default !== 'function') throw new TypeError('its default export is no function')
  const provider = await exports.default(data)
  if (typeof provider?.fill === 'function') return provider
  throw new TypeError('what its default export returns has no function fill')
}

async function serve(port: MessagePort): Promise<void> {
  const reply = (message: ProviderReply, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer)
  let provider: PageProvider
  try {
    provider = await openProvider(workerData as ProviderSource)
  } catch (error) {
    return reply({ kind: 'unopened', cause: postable(error) })
  }
  port.on('message', async (message: ProviderRequest) => {
    if (message.kind === 'close') {
      await provider.close?.()
      return reply({ kind: 'closed' })
    }
    const { id, address, into } = message
    try {
      const result = await provider.fill(address, into)
      if (result !== 'zeros' && result !== into.length) {
        throw new RangeError(`it gave ${String(result)} for ${into.length} bytes`)
      }
      reply({ kind: 'filled', id, result, into }, [into.buffer])
    } catch (error) {
      reply({ kind: 'failed', id, cause: postable(error) })
    }
  })
  reply({ kind: 'ready' })
}

if (parentPort !== null) await serve(parentPort)
