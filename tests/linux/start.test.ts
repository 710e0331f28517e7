/**
 * `npm start`: to a shell on a terminal, to a kernel version without one.
 */
import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { describeWithKvm } from '../support/kvm.ts'
import { TerminalSession } from '../support/terminal.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

describeWithKvm('npm start', () => {
  test('gives a shell on a terminal: jobs, pipes, input with escapes, and Ctrl-A x', async () => {
    const terminal = new TerminalSession(`cd '${root}' && npm start`)
    await terminal.until('# ')
    terminal.type('echo $((6 * 7)) | sed s/^/answer=/\r')
    await terminal.until('answer=42')
    terminal.type('echo "begin $((1 + 1))"; sleep 1000; echo "status $?"\r')
    await terminal.until('begin 2')
    // Ctrl-C is the guest's: it interrupts the sleep, once that has begun, and not the VM.
    const prompted = () => terminal.output.slice(terminal.output.indexOf('begin 2')).includes('# ')
    while (!prompted()) {
      terminal.type('\x03')
      await sleep(500)
    }
    terminal.type('echo "still $((40 + 2))"\r')
    await terminal.until('still 42')
    terminal.type('\x01x')
    expect(await terminal.ended).toBe(0)
  })

  test('gives a shell that ends the VM by poweroff', async () => {
    const terminal = new TerminalSession(`cd '${root}' && npm start`)
    await terminal.until('# ')
    terminal.type('poweroff\r')
    expect(await terminal.ended).toBe(0)
  })

  test('without a terminal tells the kernel’s version, powers off and ends with 0', async () => {
    const run = promisify(execFile)('npm', ['start'], { cwd: root })
    run.child.stdin?.end()
    const { stdout } = await run
    expect(stdout).toMatch(/Linux version 6\.\d+/)
  })
})
