/**
 * virtio-console under Linux's driver: hvc0 as the console, a named port beside it, and both as Node streams.
 */
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { Console, type ConsoleEvents } from '@vmm/devices/virtio'
import type { AttachDevice } from '@vmm/microvm'
import { expect, test } from 'vitest'
import { EXAMPLE_VMM } from '../support/example-vmm.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { linuxArguments } from '../support/linux.ts'
import { LinuxVm } from '../support/microvm.ts'
import { TerminalSession } from '../support/terminal.ts'

const BYTES = 40_000
/** How much of that the host takes before it reads. */
const BUFFER_BYTES = 4096

const md5 = (data: Uint8Array) => createHash('md5').update(data).digest('hex')

/** Reads so many bytes. */
async function take(stream: Duplex, length: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  for (let left = length; left > 0; ) {
    const chunk: Buffer | null = stream.read()
    if (chunk === null) await once(stream, 'readable')
    else {
      chunks.push(chunk)
      left -= chunk.length
    }
  }
  return Buffer.concat(chunks)
}

/** A device with its host's side open, as the guest that is saved has it. */
function openConsole(events: ConsoleEvents) {
  const ports = [
    { console: true, columns: 100, rows: 40 },
    { name: 'commands' },
    { name: 'agent', bufferBytes: BUFFER_BYTES },
  ]
  const device = new Console({ ports, events })
  const [terminal, commands, agent] = device.ports.map((port) => port.open())
  return { device, terminal, commands, agent } as {
    readonly device: Console
    readonly terminal: Duplex
    readonly commands: Duplex
    readonly agent: Duplex
  }
}

async function startOnConsole(events: ConsoleEvents) {
  let console = openConsole(events)
  const attach: AttachDevice = (host) => {
    console = openConsole(events)
    host.virtio.attach(console.device)
  }
  const linux = await LinuxVm.start({
    shape: 'console with two ports',
    devices: [attach],
    words: ['console=hvc0'],
    terminal: () => console.terminal,
  })
  return { linux, ...console }
}

describeWithKvm('virtio-console in Linux', () => {
  test('has a shell on hvc0 that knows its size, and named ports for programs', async () => {
    const opened: string[] = []
    const { linux, device, agent, commands } = await startOnConsole({
      guestOpened: ({ name }) => opened.push(`${name} opened`),
      guestClosed: ({ name }) => opened.push(`${name} closed`),
    })
    const port = device.port('agent')
    // Each character that is typed is echoed by itself: the rest of the commands come by another port.
    linux.type('sh </dev/vport0p1')
    const run = (...lines: readonly string[]) => commands.write(lines.map((line) => `${line}\n`).join(''))
    run(
      'echo "at $(tty <&2) size $(stty -F /dev/hvc0 size) ports $(cat /sys/class/virtio-ports/*/name | xargs)"',
      'trap \'echo "winch $(stty -F /dev/hvc0 size)"\' WINCH; echo "trapped"',
    )
    await linux.until(/^at \/dev\/hvc0 size 40 100 ports commands agent$/m)
    await linux.until(/^trapped$/m)
    device.port(0).resize(132, 50)
    run('until [ "$(stty -F /dev/hvc0 size)" = "50 132" ]; do sleep 0.1; done')
    await linux.until(/^winch 50 132$/m)

    // Lines both ways.
    expect(port.guestOpen).toBe(false)
    agent.write('a line from the host\n')
    run('exec 3<>/dev/vport0p2; read line <&3; echo "got: $line"; echo "a line from the guest" >&3')
    await linux.until(/^got: a line from the host$/m)
    expect((await take(agent, 22)).toString()).toBe('a line from the guest\n')

    // A host that does not read holds up the writer, and nobody else.
    const data = randomBytes(BYTES)
    agent.write(data)
    run(`head -c ${BYTES} <&3 >/tmp/data; echo "sum $(md5sum </tmp/data)"; cat /tmp/data >&3 &`, 'echo still')
    await linux.until(new RegExp(`^sum ${md5(data)}`, 'm'))
    await linux.until(/^still$/m)
    expect(agent.readableLength).toBeLessThanOrEqual(BUFFER_BYTES)
    expect(md5(await take(agent, BYTES))).toBe(md5(data))

    // The host hangs up, then the guest.
    agent.destroy()
    run('wait; cat <&3; echo "end of input"; exec 3>&-; echo closed')
    await linux.until(/^end of input$/m)
    await linux.until(/^closed$/m)
    expect(port.guestOpen).toBe(false)
    expect(opened.filter((one) => one.startsWith('agent'))).toEqual(['agent opened', 'agent closed'])
    run('poweroff')
    expect((await linux.ended).kind).toBe('reset')
    expect(linux.warnings).toEqual([])
  })

  test('is the terminal of example-vmm when it boots, with its size and another one', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vmm-console-'))
    try {
      const name = join(folder, 'tty')
      const options = linuxArguments({
        devices: ['--console', 'virtio'],
        words: ['console=hvc0'],
        memory: 32,
      })
      const words = [process.execPath, EXAMPLE_VMM, ...options].map((word) => `'${word}'`).join(' ')
      const session = new TerminalSession(`stty rows 31 cols 99; tty >'${name}'; exec ${words}`)
      await session.until('/root #')
      session.type('stty size\r')
      await session.until('31 99')
      // As a window manager does: the kernel sends SIGWINCH.
      execFileSync('stty', ['-F', readFileSync(name, 'utf8').trim(), 'rows', '20', 'cols', '70'])
      session.type('until stty size | grep "20 7"; do :; done\r')
      await session.until('20 70')
      session.type('\x01x')
      expect(await session.ended).toBe(0)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
