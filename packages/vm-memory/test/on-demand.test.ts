/**
 * Guest memory whose pages come from a module in a worker. This thread touches it by plain loads, which stop it until the page
 * is there: that it goes on at all is half of what is tested.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { createMemfd, pwriteFrom, threadIds } from '@vmm/sys-util'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { GuestMemory, GuestRegion, type MemoryError } from '../src/index.ts'
import type { OnDemandMemory, PageServer, PageServerOptions } from '../src/on-demand.ts'
import { guestMemoryContract } from './guest-memory.contract.ts'
import { bundleOnDemand, noUserFaultFd } from './on-demand-bundle.ts'

const PAGE = 4096
const WINDOW = 4 * PAGE
const MIB = 2 ** 20
/** For providers that never answer. */
/** Enough for a thread that starts on a busy host, and not much to wait for one that never answers. */
const IMPATIENT = { timeoutMs: 2000 }

let bundled: Awaited<ReturnType<typeof bundleOnDemand>>
const opened: { close(): unknown }[] = []

beforeAll(async () => {
  bundled = await bundleOnDemand()
})
afterAll(() => bundled.remove())
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close()
})

/** Closes it after the test. */
function own<T extends { close(): unknown }>(one: T): T {
  opened.push(one)
  return one
}

/** A module of pages, from the body of a function of `data` that returns a provider. */
function module(body: string): URL {
  const source = `import { setTimeout as sleep } from 'node:timers/promises'; export default async (data) => { ${body} }`
  return new URL(`data:text/javascript,${encodeURIComponent(source)}`)
}

/** Every byte of a page has the number of the page, and how often it was asked is counted in `data`. */
const NUMBERED = module(`
  const counts = new Int32Array(data)
  return {
    fill(address, into) {
      for (let at = 0; at < into.length; at += 4096) {
        const page = (address + at) / 4096
        Atomics.add(counts, page, 1)
        into.fill(page, at, at + 4096)
      }
      return into.length
    },
  }`)

interface Numbered {
  readonly server: PageServer
  readonly counts: Int32Array
}

async function start(from: URL, options: PageServerOptions = {}): Promise<PageServer> {
  return own(await bundled.module.PageServer.start(from, { window: WINDOW, ...options }))
}

async function startNumbered(pages: number): Promise<Numbered> {
  const counts = new Int32Array(new SharedArrayBuffer(4 * pages))
  return { server: await start(NUMBERED, { data: counts.buffer }), counts }
}

/** Has a thread of libuv's pool touch memory by a system call. @returns the byte */
async function touchElsewhere({ memory }: OnDemandMemory, address: number): Promise<number> {
  const { write } = await import('node:fs')
  const file = own(createMemfd('byte', 1))
  await new Promise<void>((resolve, reject) => {
    write(file.fd, memory.slice(address, 1) as Uint8Array, 0, 1, 0, (error) =>
      error ? reject(error) : resolve(),
    )
  })
  return readFileSync(`/proc/self/fd/${file.fd}`)[0] ?? -1
}

function memoryError(code: string): unknown {
  return expect.objectContaining({ name: 'MemoryError', code })
}

let zeros: PageServer
if (noUserFaultFd === '') {
  beforeAll(async () => {
    zeros = await bundled.module.PageServer.start(module(`return { fill: () => 'zeros' }`))
  })
  afterAll(() => zeros.close())
  guestMemoryContract('memory on demand', (ranges, options) => {
    const ram = zeros.map(ranges, options)
    // The bundle has classes of its own: the same memory, as these sources see it.
    const regions = ram.memory.regions.map((region) => new GuestRegion(region))
    return { memory: GuestMemory.fromRegions(regions), close: () => ram.close() }
  })
}

describe.skipIf(noUserFaultFd !== '')(`memory on demand${noUserFaultFd}`, () => {
  test('has the pages that were asked for, whoever touches them, and asks for no others', async () => {
    const { server, counts } = await startNumbered(256)
    const ram = own(
      server.map([
        { start: 0, size: 128 * PAGE },
        { start: 200 * PAGE, size: 20 * PAGE },
      ]),
    )
    const { memory } = ram
    expect(memory.readUint8(5 * PAGE + 1)).toBe(5)
    expect(memory.readUint32(6 * PAGE)).toBe(0x0606_0606)
    expect([...counts.subarray(0, 9)]).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 0])
    expect(await touchElsewhere(ram, 100 * PAGE)).toBe(100)
    const file = own(createMemfd('page', PAGE))
    expect(pwriteFrom(file.fd, memory.hostAddress(210 * PAGE), PAGE, 0)).toBe(PAGE)
    expect(readFileSync(`/proc/self/fd/${file.fd}`)).toEqual(Buffer.alloc(PAGE, 210))
    memory.writeUint8(219 * PAGE + 7, 1)
    expect([...(memory.slice(219 * PAGE + 6, 3) as Uint8Array)]).toEqual([219, 1, 219])
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(4 * 4)
    expect(Math.max(...counts)).toBe(1)
    expect(memory.regions.every((region) => region.onDemand)).toBe(true)
  })

  test('asks for the pages of a window that are in the range, once, for several memories each', async () => {
    const { server, counts } = await startNumbered(64)
    for (let count = 1; count <= 3; count++) {
      const { memory } = own(server.map([{ start: 2 * PAGE, size: 5 * PAGE }]))
      expect(memory.readUint8(3 * PAGE)).toBe(3)
      expect(memory.readUint8(6 * PAGE)).toBe(6)
      expect([...counts.subarray(0, 9)]).toEqual([0, 0, count, count, count, count, count, 0, 0])
    }
  })

  test('takes pages that come late, of windows in any order, and zeros', async () => {
    const server = await start(
      module(`return {
        async fill(address, into) {
          const window = address / ${WINDOW}
          await sleep(window === 0 ? 60 : 20)
          if (window % 2 === 1) return 'zeros'
          into.fill(window + 1)
          return into.length
        } }`),
    )
    const ram = own(server.map([{ start: 0, size: MIB }]))
    const bytes = await Promise.all([0, 1, 2].map((window) => touchElsewhere(ram, window * WINDOW)))
    expect(bytes).toEqual([1, 0, 3])
    expect(ram.memory.readUint8(4 * WINDOW)).toBe(5)
    expect(ram.memory.readUint8(5 * WINDOW)).toBe(0)
  })

  test('has zeros where pages were given back, also those never touched, and those on their way', async () => {
    const gate = new Int32Array(new SharedArrayBuffer(8))
    const server = await start(
      module(`
        const gate = new Int32Array(data)
        return { async fill(address, into) {
          Atomics.add(gate, 1, 1)
          while (Atomics.load(gate, 0) === 0) await sleep(1)
          into.fill(7)
          return into.length
        } }`),
      { data: gate.buffer },
    )
    const ram = own(server.map([{ start: 0, size: MIB }]))
    const { memory } = ram
    const [given, back] = [touchElsewhere(ram, 0), touchElsewhere(ram, 2 * PAGE)]
    while (Atomics.load(gate, 1) === 0) await sleep(1)
    ram.discard(PAGE, 2 * PAGE)
    Atomics.store(gate, 0, 1)
    expect(await Promise.all([given, back])).toEqual([7, 0])
    const read = (page: number) => memory.readUint8(page * PAGE)
    expect([0, 1, 2, 3].map(read)).toEqual([7, 0, 0, 7])
    ram.discard(0, PAGE)
    ram.discard(5 * PAGE, PAGE)
    expect([0, 4, 5, 6].map(read)).toEqual([0, 7, 0, 7])
    expect(Atomics.load(gate, 1)).toBe(3)
    memory.writeUint8(5 * PAGE, 9)
    expect(read(5)).toBe(9)
    expect(ram.discardsToZero).toBe(true)
  })

  test('is what a plain array is, under any accesses and pages given back', async () => {
    const PAGES = 24
    const { server } = await startNumbered(PAGES)
    const page = fc.integer({ min: 0, max: PAGES - 1 })
    const step = fc.oneof(
      fc.record({ kind: fc.constant('read' as const), page, length: fc.integer({ min: 1, max: 3 * PAGE }) }),
      fc.record({ kind: fc.constant('elsewhere' as const), page, length: fc.constant(1) }),
      fc.record({ kind: fc.constant('write' as const), page, length: fc.integer({ min: 1, max: 3 * PAGE }) }),
      fc.record({ kind: fc.constant('discard' as const), page, length: fc.integer({ min: 1, max: 6 }) }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const model = Uint8Array.from({ length: PAGES * PAGE }, (_, at) => Math.floor(at / PAGE))
        const ram = server.map([{ start: 0, size: PAGES * PAGE }])
        try {
          for (const [index, { kind, page, length }] of steps.entries()) {
            const from = page * PAGE
            const to = Math.min(from + length, model.length)
            if (kind === 'discard') {
              const end = Math.min(from + length * PAGE, model.length)
              ram.discard(from, end - from)
              model.fill(0, from, end)
            } else if (kind === 'write') {
              ram.memory.fill(from, to - from, 0x80 + index)
              model.fill(0x80 + index, from, to)
            } else if (kind === 'elsewhere') {
              expect(await touchElsewhere(ram, from)).toBe(model[from])
            } else {
              const found = new Uint8Array(to - from)
              ram.memory.readSlice(from, found)
              expect(Buffer.compare(found, model.subarray(from, to))).toBe(0)
            }
          }
          const whole = new Uint8Array(model.length)
          ram.memory.readSlice(0, whole)
          expect(Buffer.compare(whole, model)).toBe(0)
        } finally {
          ram.close()
        }
      }),
      { numRuns: 60 },
    )
  })

  describe('when the provider', () => {
    const failing: Record<string, [fill: string, message: RegExp]> = {
      throws: [`throw new Error('disk gone')`, /for the pages at 0x8000: disk gone$/],
      rejects: [`await sleep(5); throw 'a string'`, /for the pages at 0x8000: a string$/],
      'throws what cannot be posted': [
        `throw Object.assign(new Error('odd'), { cause: () => {} })`,
        /for the pages at 0x8000: odd$/,
      ],
      'gives too little': ['return 4096', /it gave 4096 for 16384 bytes$/],
      'gives nothing': ['', /it gave undefined for 16384 bytes$/],
      'keeps the bytes': [
        'data.k = structuredClone(into, { transfer: [into.buffer] }); return 16384',
        /0x8000/,
      ],
      'ends its thread': ['process.exit(3)', /^the page provider has died: exit code 3$/],
      'leaves an exception uncaught': [
        `setTimeout(() => { throw new Error('late') }); await sleep(1e6)`,
        /^the page provider has died: late$/,
      ],
      'never answers': ['await sleep(1e6)', /has not given the pages at 0x8000 in 2000 ms$/],
      'spins for ever': ['for (;;);', /has not given the pages at 0x8000 in 2000 ms$/],
    }
    for (const [what, [fill, message]] of Object.entries(failing)) {
      test(`${what}, there is an error, and zeros for this thread, which waits`, async () => {
        const body = `return { async fill(address, into) {
          if (address !== 0x8000) { into.fill(1); return into.length }
          ${fill}
        } }`
        const server = await start(module(body), { data: {}, ...(what.match(/never|spins/) && IMPATIENT) })
        const { memory, ...ram } = ((one: OnDemandMemory) => ({
          memory: one.memory,
          failed: one.failed,
          failure: () => one.failure,
        }))(own(server.map([{ start: 0, size: MIB }])))
        expect(memory.readUint8(0)).toBe(1)
        expect(memory.readUint8(0x8000)).toBe(0)
        expect(memory.readUint8(0x4_0000)).toBe(0)
        expect(memory.readUint8(0)).toBe(1)
        const error = await ram.failed
        expect(error).toEqual(memoryError('ERR_MEMORY_PAGE_PROVIDER'))
        expect(error.message).toMatch(message)
        expect(ram.failure()).toBe(error)
      })
    }

    test('fails, no other thread goes on before the owner has been told', async () => {
      const server = await start(module(`return { async fill() { await sleep(50); throw new Error('no') } }`))
      const ram = own(server.map([{ start: 0, size: MIB }]))
      const order: string[] = []
      const others = [0, WINDOW].map(async (address) => {
        expect(await touchElsewhere(ram, address)).toBe(0)
        order.push('went on')
      })
      ram.failed.then(({ address }) => order.push(`told of ${address}`))
      await Promise.all(others)
      expect(order).toEqual([expect.stringMatching(/^told of \d+$/), 'went on', 'went on'])
    })

    test('fails for one memory, others are served', async () => {
      const body = `let calls = 0; return { fill(address, into) { if (++calls === 1) throw new Error('once'); return 'zeros' } }`
      const server = await start(module(body))
      const [bad, good] = [
        own(server.map([{ start: 0, size: MIB }])),
        own(server.map([{ start: 0, size: MIB }])),
      ]
      expect(bad.memory.readUint8(0)).toBe(0)
      expect(good.memory.readUint8(0)).toBe(0)
      expect((await bad.failed).address).toBe(0)
      expect(good.failure).toBeUndefined()
    })

    test('has died, no more memory is made, and what there is can be closed', async () => {
      const server = await start(module('return { fill() { process.exit(0) } }'))
      const ram = own(server.map([{ start: 0, size: MIB }]))
      expect(ram.memory.readUint8(0)).toBe(0)
      await ram.failed
      expect(() => server.map([{ start: 0, size: MIB }])).toThrow(
        memoryError('ERR_MEMORY_PAGE_PROVIDER') as Error,
      )
      ram.discard(0, PAGE)
    })
  })

  test.each([
    ['cannot be found', new URL('file:///nowhere/pages.js'), /cannot be opened: Cannot find module/],
    ['has no default export', new URL('data:text/javascript,'), /its default export is no function$/],
    ['returns no provider', module('return {}'), /has no function fill$/],
    ['throws', module(`throw new Error('no such image')`), /cannot be opened: no such image$/],
    ['never opens', module('await sleep(1e6)'), /has not been opened in 2000 ms$/],
    ['ends its thread', module('process.exit(0)'), /has died: exit code 0$/],
  ])('is refused where the module %s', async (_what, from, message) => {
    const before = threadIds().length
    const options = message.source.includes('in 2000 ms') ? IMPATIENT : {}
    const failure = await start(from, options).catch((error: MemoryError) => error)
    expect(failure).toEqual(memoryError('ERR_MEMORY_PAGE_PROVIDER'))
    expect((failure as MemoryError).message).toMatch(message)
    expect(threadIds()).toHaveLength(before)
  })

  test('is refused with options that make no sense', async () => {
    const from = module(`return { fill: () => 'zeros' }`)
    for (const options of [{ window: 2048 }, { window: 12_288 }, { timeoutMs: 0 }, { data: () => {} }]) {
      await expect(start(from, options)).rejects.toEqual(memoryError('ERR_MEMORY_INVALID_ARGUMENT'))
    }
    const server = await start(from)
    expect(() => server.map([])).toThrow(memoryError('ERR_MEMORY_NO_REGION') as Error)
    expect(() => server.map([{ start: 0, size: 100 }])).toThrow(
      memoryError('ERR_MEMORY_USERFAULTFD') as Error,
    )
  })

  test('leaves no thread, descriptor or mapping, round after round', async () => {
    const count = () => ({
      threads: threadIds().length,
      descriptors: readdirSync('/proc/self/fd').length,
      userfaultfds: readdirSync('/proc/self/fd').filter((fd) => linkOf(fd).includes('userfaultfd')).length,
    })
    const closes = new Int32Array(new SharedArrayBuffer(4))
    const body = `return {
      fill: (address, into) => into.fill(1).length,
      close: () => Atomics.add(new Int32Array(data), 0, 1),
    }`
    const round = async () => {
      const server = await bundled.module.PageServer.start(module(body), { data: closes.buffer })
      const rams = Array.from({ length: 20 }, () => server.map([{ start: 0, size: MIB }]))
      const elsewhere = rams.map((ram) => touchElsewhere(ram, MIB / 2))
      for (const { memory } of rams) expect(memory.readUint8(5)).toBe(1)
      await Promise.all(elsewhere)
      for (const owner of opened.splice(0)) await owner.close()
      const address = rams[0]?.memory.hostAddress(0) ?? 0n
      const [early = [], late = []] = [rams.slice(0, 15), rams.slice(15)]
      for (const ram of early) ram.close()
      expect(count().userfaultfds).toBe(5)
      const closing = server.close()
      for (const ram of late) ram.close()
      for (const ram of late) ram.close()
      await closing
      await server.close()
      expect(() => server.map([{ start: 0, size: MIB }])).toThrow(
        memoryError('ERR_MEMORY_PAGE_PROVIDER') as Error,
      )
      expect(isMapped(address)).toBe(false)
    }
    await round()
    const before = count()
    expect(before.userfaultfds).toBe(0)
    for (let index = 0; index < 3; index++) await round()
    expect(count()).toEqual(before)
    expect(closes[0]).toBe(4)
  })

  test('that outlives its server has zeros where pages are missing', async () => {
    const { server } = await startNumbered(64)
    const ram = own(server.map([{ start: 0, size: 64 * PAGE }]))
    expect(ram.memory.readUint8(PAGE)).toBe(1)
    await server.close()
    expect(ram.memory.readUint8(PAGE)).toBe(1)
    expect(ram.memory.readUint8(50 * PAGE)).toBe(0)
    expect(ram.failure).toBeUndefined()
  })

  test('does not keep a process running, and ends with it', () => {
    const program = `
      const { PageServer } = await import('${bundled.url}')
      const server = await PageServer.start(new URL(${JSON.stringify(NUMBERED.href)}), { data: new SharedArrayBuffer(4096) })
      console.log(server.map([{ start: 0, size: 65536 }]).memory.readUint8(4096))`
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
    })
    expect(output).toBe('1\n')
  })

  test('lets a process end while a thread of its pool waits for a page', () => {
    const program = `
      import { write } from 'node:fs'
      const { PageServer } = await import('${bundled.url}')
      const server = await PageServer.start(new URL(${JSON.stringify(module('return { fill: () => sleep(1e6) }').href)}))
      const { memory } = server.map([{ start: 0, size: 65536 }])
      write(1, memory.slice(0, 1), () => {})
      setTimeout(() => process.exit(5), 50)`
    const args = ['--input-type=module', '-e', program]
    const { status } = spawnSync(process.execPath, args, {
      // A pipe: what is written to /dev/null is not looked at.
      stdio: 'pipe',
      timeout: 60_000,
      killSignal: 'SIGKILL',
    })
    expect(status).toBe(5)
  })

  test('has nobody wait for ever where the process has no descriptors left', () => {
    const program = `
      import { closeSync, openSync } from 'node:fs'
      const { PageServer } = await import('${bundled.url}')
      const module = new URL(${JSON.stringify(module('return { fill: (_, into) => into.fill(7).length }').href)})
      async function touch() {
        const server = await PageServer.start(module)
        const ram = server.map([{ start: 0, size: 65536 }])
        const byte = ram.memory.readUint8(0)
        const reason = byte === 0 ? (await ram.failed).message : ''
        ram.close()
        await server.close()
        return [byte, reason]
      }
      await touch()
      for (let free = 0, seen = []; seen[0] !== 7; free++) {
        const taken = []
        try {
          for (;;) taken.push(openSync('/dev/null'))
        } catch {}
        for (const fd of taken.splice(taken.length - free, free)) closeSync(fd)
        seen = await touch().catch(({ code, message }) => [code, message])
        for (const fd of taken) closeSync(fd)
        console.log(...seen)
      }`
    const node = [process.execPath, '--input-type=module', '-e', program]
    const { stdout, status } = spawnSync('sh', ['-c', 'ulimit -n 128 && exec "$@"', 'sh', ...node], {
      encoding: 'utf8',
      timeout: 60_000,
      killSignal: 'SIGKILL',
    })
    const lines = stdout.trimEnd().split('\n')
    expect(lines.pop()).toBe('7')
    for (const line of lines)
      expect(line).toMatch(/^(?:0|ERR_MEMORY_[A-Z_]+) .*(?:EMFILE|too many open files)/)
    expect(lines.some((line) => line.startsWith('0 the fault cannot be served'))).toBe(true)
    expect(status).toBe(0)
  })

  test.skipIf(process.getuid?.() !== 0)('says what the host does not allow', () => {
    const program = `
      import { readFileSync } from 'node:fs'
      const { PageServer } = await import('${bundled.url}')
      if (readFileSync('/proc/sys/vm/unprivileged_userfaultfd', 'latin1').trim() === '1') process.exit()
      await PageServer.start(new URL('file:///none')).catch(() => {})
      process.seteuid(65534)
      await PageServer.start(new URL('file:///none')).catch((error) => console.log(error.code, error.message))`
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
    })
    expect(output).toMatch(
      /^(ERR_MEMORY_USERFAULTFD this host does not allow memory on demand: userfaultfd: EPERM.*\n)?$/,
    )
  })
})

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}

function isMapped(address: bigint): boolean {
  return readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .map((line) => /^([0-9a-f]+)-([0-9a-f]+) /.exec(line))
    .some(
      (range) => range !== null && address >= BigInt(`0x${range[1]}`) && address < BigInt(`0x${range[2]}`),
    )
}
