/**
 * How a VM ends, told by the exit status; and the terminal as it was.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { EXIT_PORT, I8042_COMMAND_PORT, I8042_COMMAND_RESET } from '@vmm/devices'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Report } from '../../examples/example-vmm/src/report.ts'
import { EM_X86_64, elf64, PT_LOAD } from '../support/elf.ts'
import { EXAMPLE_VMM, runVmm, runVmmWithReport, startVmm } from '../support/example-vmm.ts'
import { HALT, jumpTo, outByte, print, SPIN, TRIPLE_FAULT } from '../support/guest-code.ts'
import { describeWithKvm } from '../support/kvm.ts'

const LOAD_ADDRESS = 0x100_0000
/** Where no memory and no device is. */
const NOWHERE = 0xd000_0000
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const

let folder: string
const file = (name: string) => join(folder, name)

/** A guest that begins with a line on its console. */
function guest(name: string, code: readonly number[]): string {
  const data = Uint8Array.from([...print(`${name} up\n`), ...code])
  const path = file(name)
  writeFileSync(
    path,
    elf64({ machine: EM_X86_64, segments: [{ type: PT_LOAD, address: LOAD_ADDRESS, data }] }),
  )
  return path
}

const run = (name: string, code: readonly number[]) => [
  'run',
  '--kernel',
  guest(name, code),
  '--memory',
  '32',
]

describeWithKvm('example-vmm ends', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-endings-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('with 0 where the guest resets the machine', async () => {
    const result = await runVmm(run('reset', outByte(I8042_COMMAND_PORT, I8042_COMMAND_RESET)))
    expect(result).toEqual({ status: 0, signal: null, stdout: 'reset up\n', stderr: '' })
  })

  test('with 0 where the guest writes the exit port', async () => {
    const result = await runVmm(run('exit', outByte(EXIT_PORT, 7)))
    expect(result).toEqual({ status: 0, signal: null, stdout: 'exit up\n', stderr: '' })
  })

  test('with 3 after a triple fault, and says where', async () => {
    const { status, stderr, stdout } = await runVmm(run('fault', TRIPLE_FAULT))
    expect(stdout).toBe('fault up\n')
    expect(stderr).toMatch(/^example-vmm: .*triple fault.* RIP 0x[0-9a-f]+ in long mode CPL 0\)\n$/)
    expect(status).toBe(3)
  })

  test('with 3 where KVM cannot go on, and says where and the bytes', async () => {
    const { status, stderr } = await runVmm(run('nowhere', jumpTo(NOWHERE)))
    expect(stderr).toMatch(/^example-vmm: .*bytes .* RIP 0xd0000000 in long mode CPL 0\)\n$/)
    expect(status).toBe(3)
  })

  for (const [name, code] of Object.entries({ halts: HALT, spins: SPIN })) {
    test(`with 4 at the timeout of a guest that ${name}`, async () => {
      const { status, stderr, report } = await runVmmWithReport([...run(name, code), '--timeout', '0.3'])
      expect(stderr).toBe('example-vmm: timeout: the guest ran for 0.3 s\n')
      expect(status).toBe(4)
      expect(report).toMatchObject({ status: 4, times: { bootMarker: null } })
      expect(report.exits['interrupted']).toBeGreaterThan(0)
    })

    for (const [signal, number] of Object.entries(SIGNALS)) {
      test(`with ${128 + number} at ${signal} while the guest ${name}`, async () => {
        const vmm = startVmm(run(name, code))
        await vmm.waitFor(`${name} up`)
        vmm.child.kill(signal as NodeJS.Signals)
        const { status, stderr } = await vmm.result
        expect(stderr).toBe(`example-vmm: ended by ${signal}\n`)
        expect(status).toBe(128 + number)
      })
    }
  }

  test('with 1 where nobody reads its output any more', async () => {
    // It prints for ever: four bytes for the port, three for each character, five for the jump.
    const text = 'x'.repeat(64)
    const back = [0xe9, ...[0, 8, 16, 24].map((shift) => (-(4 + 3 * text.length + 5) >> shift) & 0xff)]
    const path = guest('chatter', [...print(text), ...back])
    const command = `${process.execPath} ${EXAMPLE_VMM} run --kernel ${path} --memory 32 --report ${file('chatter.json')}`
    const output = execFileSync('sh', ['-c', `${command} | head -c 10`], {
      encoding: 'latin1',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    expect(output).toBe('chatter up')
    const report = await untilDefined(() => readReport(file('chatter.json')))
    expect(report).toMatchObject({ status: 1, reason: expect.stringMatching(/^stdout: .*EPIPE/) })
  })
})

/** A shell command on a terminal of its own. */
function onTerminal(command: string): {
  child: ChildProcess
  output: () => string
  ended: Promise<number | null>
} {
  const child = spawn('script', ['--quiet', '--return', '--flush', '--command', command, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  let output = ''
  child.stdout?.on('data', (data: Buffer) => {
    output += data.toString('latin1')
  })
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  return { child, output: () => output, ended }
}

/** A report, once it is written. */
function readReport(path: string): Report | undefined {
  const text = readFileSync(path, 'utf8')
  return text === '' ? undefined : JSON.parse(text)
}

async function untilDefined<T>(look: () => T | undefined): Promise<T> {
  for (;;) {
    const found = look()
    if (found !== undefined) return found
    await sleep(20)
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20)
}

describeWithKvm('example-vmm on a terminal', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-terminal-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  /** Runs a halting guest between two looks at the terminal's settings. */
  function start(name: string) {
    const vmm = `exec ${process.execPath} ${EXAMPLE_VMM} ${run(name, HALT).join(' ')}`
    const before = `stty -g > ${file(`${name}.before`)}`
    const after = `stty -g > ${file(`${name}.after`)}`
    const terminal = onTerminal(
      `${before}; (echo $BASHPID > ${file(`${name}.pid`)}; ${vmm}); s=$?; ${after}; exit $s`,
    )
    return {
      ...terminal,
      pid: () => Number(readFileSync(file(`${name}.pid`), 'utf8')),
      settings: (when: string) => readFileSync(file(`${name}.${when}`), 'utf8'),
    }
  }

  test('ends with 0 at Ctrl-A x and restores the terminal; other keys are the guest’s', async () => {
    const terminal = start('keys')
    await until(() => terminal.output().includes('keys up'))
    terminal.child.stdin?.write('\x03\x01h')
    await until(() => terminal.output().includes('Ctrl-A x  end the VM'))
    terminal.child.stdin?.write('\x01\x01\x01')
    await sleep(100)
    terminal.child.stdin?.write('x')
    expect(await terminal.ended).toBe(0)
    expect(terminal.settings('after')).toBe(terminal.settings('before'))
  })

  for (const [signal, number] of Object.entries(SIGNALS)) {
    test(`restores the terminal at ${signal}`, async () => {
      const terminal = start(signal)
      await until(() => terminal.output().includes(`${signal} up`))
      process.kill(terminal.pid(), signal)
      expect(await terminal.ended).toBe(128 + number)
      expect(terminal.settings('after')).toBe(terminal.settings('before'))
    })
  }

  test('ends when the terminal is closed', async () => {
    const terminal = start('closed')
    await until(() => terminal.output().includes('closed up'))
    const pid = terminal.pid()
    terminal.child.kill('SIGKILL')
    await until(() => !isAlive(pid))
  })
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
