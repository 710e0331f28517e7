/**
 * virtio-vsock under Linux's driver: streams both ways, in the process and through Unix sockets, and HTTP on top.
 */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { Vsock } from '@vmm/devices/virtio'
import { UnixSocketBridge } from '@vmm/vsock'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeWithKvm } from '../support/kvm.ts'
import { startLinux } from '../support/linux.ts'
import { LinuxVm } from '../support/microvm.ts'

/** Each way: half of them in the process, half by the Unix socket. */
const STREAMS = 100
const HALF = STREAMS / 2
const BYTES = 1500
/** For guests whose kernel is interpreted, on hosts with other work. */
const PATIENCE_MS = 240_000
/** More than the buffers of both sides: credit has to come and go. */
const LONG_BYTES = 500_000

const HALF_OPEN = { allowHalfOpen: true, timeout: PATIENCE_MS }

const sum = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

describeWithKvm('virtio-vsock in Linux', () => {
  let folder: string
  let path: string
  let vsock: Vsock
  let linux: LinuxVm
  const servers: net.Server[] = []

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-vsock-'))
    path = join(folder, 'v.sock')
    linux = await LinuxVm.start({
      initrd: 'programs.cpio',
      shape: 'vsock',
      devices: [
        async (host) => {
          vsock = new Vsock({ guestCid: 3 })
          host.virtio.attach(vsock)
          host.own(vsock)
          host.own(await UnixSocketBridge.listen({ vsock, path, connectTimeout: PATIENCE_MS }))
        },
      ],
    })
  })
  afterAll(async () => {
    linux.type('poweroff')
    await linux.ended
    for (const server of servers) server.close()
    rmSync(folder, { recursive: true })
  })

  /** Waits until the guest's program listens, which it has just been told to. */
  async function listening(command: string): Promise<void> {
    const before = linux.output.length
    linux.type(command)
    while (!/^vsock: listening$/m.test(linux.output.slice(before)))
      await new Promise((go) => setTimeout(go, 5))
  }

  /** Listens on the Unix socket behind a port. */
  async function serve(port: number, server: net.Server): Promise<void> {
    servers.push(server.listen(`${path}_${port}`))
    await once(server, 'listening')
  }

  /** A connection through the Unix socket, after its OK. */
  async function dialByPath(port: number): Promise<Duplex> {
    const socket = net.createConnection({ path, allowHalfOpen: true })
    socket.write(`CONNECT ${port}\n`)
    const [line] = await once(socket, 'data')
    socket.pause()
    expect(String(line)).toMatch(/^OK \d+\n$/)
    return socket
  }

  /** Sends bytes on each stream, and compares what comes back. */
  async function expectEchoes(streams: readonly Duplex[], bytes: number): Promise<void> {
    const data = streams.map(() => randomBytes(bytes))
    const echoes = streams.map((stream, i) => {
      stream.end(data[i])
      return buffer(stream)
    })
    expect((await Promise.all(echoes)).map(sum)).toEqual(data.map(sum))
  }

  test(`carries ${STREAMS} streams that the guest makes, to streams and to a Unix socket`, async () => {
    const sums = new Set<string>()
    const echo = (stream: Duplex) => {
      const hash = createHash('sha256')
      stream.on('data', (chunk) => hash.update(chunk))
      stream.on('end', () => sums.add(hash.digest('hex')))
      stream.pipe(stream)
    }
    vsock.listen(1000, echo, HALF_OPEN)
    await serve(1001, net.createServer({ allowHalfOpen: true }, echo))
    for (const port of [1000, 1001]) {
      linux.type(`vsock streams ${port} ${HALF} ${BYTES}; echo "status ${port} $?"`)
      await linux.until(new RegExp(`^vsock: ${HALF} of ${HALF} streams came back\nstatus ${port} 0$`, 'm'))
      expect(sums.size).toBe(HALF)
      sums.clear()
    }
  })

  test(`carries ${STREAMS} streams that the host makes, by connect and through the Unix socket`, async () => {
    const dials: (() => Promise<Duplex>)[] = [() => vsock.connect(2000, HALF_OPEN), () => dialByPath(2000)]
    for (const dial of dials) {
      await listening(`vsock echo 2000 ${HALF}`)
      await expectEchoes(await Promise.all(Array.from({ length: HALF }, dial)), BYTES)
      await linux.until(new RegExp(`^vsock: echoed ${HALF}$`, 'm'))
    }
  })

  test('carries more than the buffers hold, both ways at once', async () => {
    await listening('vsock echo 2001 1')
    await expectEchoes([await vsock.connect(2001, HALF_OPEN)], LONG_BYTES)
    vsock.listen(1002, (stream) => stream.pipe(stream), HALF_OPEN)
    linux.type(`head -c ${LONG_BYTES} /bin/busybox > /tmp/long; vsock cat 1002 < /tmp/long > /tmp/back`)
    linux.type('cmp /tmp/long /tmp/back && echo "same $((1+1))"')
    await linux.until(/^same 2$/m)
  })

  test('carries HTTP: a server of the host for the guest, and one of the guest for the host', async () => {
    const server = http.createServer((request, response) => response.end(`host has ${request.url}\n`))
    vsock.listen(80, (stream) => server.emit('connection', stream))
    linux.type("printf 'GET /it HTTP/1.0\\r\\n\\r\\n' | vsock cat 80")
    await linux.until(/^host has \/it$/m)

    const fetchPage = async (stream: Duplex) => {
      // It was stopped after the OK, and the server speaks only when it is spoken to.
      const connection = stream.resume() as never
      const request = http.get({ host: 'guest', path: '/page', createConnection: () => connection })
      const [response] = (await once(request, 'response')) as [http.IncomingMessage]
      return [response.statusCode, await text(response)]
    }
    // Reads up to the empty line, and answers. busybox's httpd wants an address that it knows.
    const read = 'while read -r line; do case $line in ?) break;; esac; done'
    const answer = 'printf "HTTP/1.0 200 OK\\r\\n\\r\\nguest has $((40+2))\\n"'
    await listening(`vsock run 81 2 sh -c '${read}; ${answer}'`)
    expect(await fetchPage(await vsock.connect(81, { timeout: PATIENCE_MS }))).toEqual([
      200,
      'guest has 42\n',
    ])
    expect(await fetchPage(await dialByPath(81))).toEqual([200, 'guest has 42\n'])
  })

  test('says where nobody listens, in either direction', async () => {
    await expect(vsock.connect(9, { timeout: PATIENCE_MS })).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    linux.type('vsock cat 9 < /dev/null')
    await linux.until(/^connect: Connection reset by peer$/m)
    expect(linux.warnings).toEqual([])
    while (vsock.connections > 0) await new Promise((go) => setTimeout(go, 5))
  })
})

describeWithKvm('example-vmm --vsock', () => {
  test('is the Unix socket, which goes with the VM', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vmm-vsock-'))
    const path = join(folder, 'v.sock')
    try {
      const vmm = await startLinux({
        initrd: 'programs.cpio',
        shape: 'vsock',
        devices: ['--vsock', `cid=52,uds=${path}`],
      })
      const server = net.createServer((socket) => socket.end('from the host\n')).listen(`${path}_7`)
      vmm.child.stdin?.write('vsock cat 7 < /dev/null; vsock run 8 1 sh -c "echo from the guest"\n')
      await vmm.waitFor('from the host')
      await vmm.waitFor('vsock: listening')
      const socket = net.createConnection(path)
      socket.write('CONNECT 8\n')
      expect(await text(socket)).toMatch(/^OK \d+\nfrom the guest\n$/)
      server.close()
      vmm.child.stdin?.end('poweroff\n')
      expect(await vmm.result).toMatchObject({ status: 0, stderr: '' })
      await expect(once(net.createConnection(path), 'connect')).rejects.toMatchObject({ code: 'ENOENT' })
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
