// @vmm/devices: a server of node:http that a guest reaches over vsock, without a network.
import { createServer } from 'node:http'
import { Vsock } from '@vmm/devices/virtio'
import { Linux } from './linux.js'

const server = createServer((request, response) => {
  console.log(`[host] ${request.method} ${request.url}`)
  response.end(`hello from Node.js ${process.versions.node}\n`)
})

const vsock = new Vsock({ guestCid: 3 })
// A connection that the guest makes is a stream, which is all that an HTTP server wants.
vsock.listen(80, (stream) => server.emit('connection', stream))

const guest = await Linux.boot([
  (host) => {
    host.virtio.attach(vsock)
    host.own(vsock)
  },
])
console.log(await guest.run("printf 'GET /hello HTTP/1.0\\r\\n\\r\\n' | vsock cat 80"))
await guest.close()
