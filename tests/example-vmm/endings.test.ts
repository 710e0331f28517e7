/**
 * How a VM ends, told by the exit status; and the terminal as it was.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  BOOT_MARKER,
  BOOT_TIMER_PORT,
  EXIT_PORT,
  I8042_COMMAND_PORT,
  I8042_COMMAND_RESET,
} from '@vmm/devices'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Report } from '../../examples/example-vmm/src/report.ts'
import { kernelImage } from '../support/elf.ts'
import { EXAMPLE_VMM, runVmm, runVmmWithReport, startVmm } from '../support/example-vmm.ts'
import { HALT, jumpTo, outByte, print, SPIN, TRIPLE_FAULT } from '../support/guest-code.ts'
import { describeWithKvm } from '../support/kvm.ts'
import { TerminalSession } from '../support/terminal.ts'

/** Where no memory and no device is. */
const NOWHERE = 0xe000_0000
/** What a pipe holds that nobody reads. */
const PIPE_SIZE = 65_536
/** After this a signal is not the same as the one before: a little more than the program's own measure. */
const INSIST_MS = 1200
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const

let folder: string
const file = (name: string) => join(folder, name)

/** mov $count, %ecx; mov $0x3f8, %dx; rep outsb: whatever is in memory. */
const outText = (count: number) => [
  ...[0xb9, ...[0, 8, 16, 24].map((shift) => (count >>> shift) & 0xff)],
  ...[0x66, 0xba, 0xf8, 0x03, 0xf3, 0x6e],
]

/** A guest that begins with a line on its console. */
function guest(name: string, code: readonly number[]): string {
  const path = file(name)
  writeFileSync(path, kernelImage([...print(`${name} up\n`), ...code]))
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
    expect(stderr).toMatch(/^example-vmm: .*bytes .* RIP 0xe0000000 in long mode CPL 0\)\n$/)
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

describeWithKvm('example-vmm', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-loses-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('goes on where nobody reads what goes wrong any more', async () => {
    const mark = print(String.fromCharCode(BOOT_MARKER), BOOT_TIMER_PORT)
    writeFileSync(file('taken'), '')
    const args = run('spins', [...mark, ...SPIN])
    const vmm = startVmm([...args, '--snapshot', file('taken'), '--timeout', '2'])
    vmm.child.stderr?.destroy()
    expect((await vmm.result).status).toBe(4)
  })

  test('says in a sentence that its help cannot be printed', () => {
    const help = `${process.execPath} ${EXAMPLE_VMM} run --help`
    for (const [command, code] of [
      [`${help} > /dev/full`, 'ENOSPC'],
      [`{ sleep 0.5; ${help}; echo $? >&2; } | true`, 'EPIPE'],
    ] as const) {
      const { stderr } = spawnSync('sh', ['-c', command], { encoding: 'utf8' })
      expect(stderr).toMatch(new RegExp(`^example-vmm: stdout: [^\\n]*${code}[^\\n]*\\n(?:1\\n)?$`))
    }
  })

  test('says that its report cannot be written, and how the VM ended', async () => {
    const full = ['--report', '/dev/full']
    const fine = await runVmm([...run('exit', outByte(EXIT_PORT, 0)), ...full])
    expect(fine.stderr).toMatch(/^example-vmm: --report: ENOSPC[^\n]*\n$/)
    expect(fine.status).toBe(1)
    const died = await runVmm([...run('fault', TRIPLE_FAULT), ...full])
    expect(died.stderr).toMatch(
      /^example-vmm: --report: ENOSPC[^\n]*\nexample-vmm: [^\n]*triple fault[^\n]*\n$/,
    )
    expect(died.status).toBe(3)
  })

  test('waits for who reads its output until a signal insists', async () => {
    const args = run('prints', [...outText(PIPE_SIZE), ...outByte(EXIT_PORT, 0)])
    const [report, pid, status] = ['report', 'pid', 'status'].map((name) => file(`prints.${name}`))
    const vmm = `exec ${process.execPath} ${EXAMPLE_VMM} ${args.join(' ')} --report ${report}`
    // What should read is there until this test closes its standard input, and does not read.
    const command = `exec 3<&0; { sh -c 'echo $$ > ${pid}; ${vmm}' 3<&-; echo $? > ${status}; } | cat 4<&0 <&3`
    const shell = spawn('sh', ['-c', command], { stdio: ['pipe', 'ignore', 'ignore'] })
    const ended = once(shell, 'exit')
    try {
      await untilDefined(() => (existsSync(String(report)) ? readReport(String(report)) : undefined))
      const kill = (signal: string) => process.kill(processId(String(pid)), signal)
      kill('SIGTERM')
      kill('SIGINT')
      await sleep(INSIST_MS)
      expect(existsSync(String(status))).toBe(false)
      kill('SIGTERM')
      const text = () => readFileSync(String(status), 'utf8')
      expect(await untilDefined(() => (existsSync(String(status)) && text()) || undefined)).toBe('143\n')
    } finally {
      shell.stdin.end()
      await ended
    }
  })
})

/** A report, once it is written. */
function readReport(path: string): Report | undefined {
  const text = readFileSync(path, 'utf8')
  return text === '' ? undefined : JSON.parse(text)
}

/** The process whose id a shell has written to a file. */
function processId(path: string): number {
  const text = readFileSync(path, 'utf8')
  // No number reads as 0, and a signal to process 0 goes to all of the test's own group.
  if (!/^[1-9]\d*\n$/.test(text)) throw new Error(`no process id: ${JSON.stringify(text)}`)
  return Number(text)
}

async function untilDefined<T>(look: () => T | undefined): Promise<T> {
  for (;;) {
    const found = look()
    if (found !== undefined) return found
    await sleep(20)
  }
}

describeWithKvm('example-vmm on a terminal', () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmm-terminal-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  /** Runs a halting guest between two looks at the terminal's settings. */
  function start(name: string) {
    const vmm = `exec ${process.execPath} ${EXAMPLE_VMM} ${run(name, HALT).join(' ')}`
    const [before, after, pid] = ['before', 'after', 'pid'].map((suffix) => file(`${name}.${suffix}`))
    const session = new TerminalSession(
      `stty -g > ${before}; sh -c 'echo $$ > ${pid}; ${vmm}'; s=$?; stty -g > ${after}; exit $s`,
    )
    return {
      session,
      pid: () => processId(String(pid)),
      settings: (when: 'before' | 'after') => readFileSync(file(`${name}.${when}`), 'utf8'),
    }
  }

  test('ends with 0 at Ctrl-A x and restores the terminal; other keys are the guest’s', async () => {
    const { session, settings } = start('keys')
    await session.until('keys up')
    session.type('\x03\x01h')
    await session.until('Ctrl-A x  end the VM')
    session.type('\x01\x01\x01')
    // Ctrl-A and x may come apart.
    await sleep(100)
    session.type('x')
    expect(await session.ended).toBe(0)
    expect(settings('after')).toBe(settings('before'))
  })

  for (const [signal, number] of Object.entries(SIGNALS)) {
    test(`restores the terminal at ${signal}`, async () => {
      const { session, pid, settings } = start(signal)
      await session.until(`${signal} up`)
      process.kill(pid(), signal)
      expect(await session.ended).toBe(128 + number)
      expect(settings('after')).toBe(settings('before'))
    })
  }

  test('ends when the terminal is closed', async () => {
    const { session, pid } = start('closed')
    await session.until('closed up')
    const vmm = pid()
    session.child.kill('SIGKILL')
    while (isAlive(vmm)) await sleep(20)
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
