/**
 * Bare-metal guests under example-vmm and under Debian's QEMU: the same ELF file, the same command line, a vCPU and as
 * much memory. What they print is what they measured.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Kvm } from '../../packages/kvm-ioctls/dist/index.js'

const EXAMPLE_VMM = fileURLToPath(new URL('../../examples/example-vmm/bin/example-vmm.cjs', import.meta.url))
const QEMU = '/usr/bin/qemu-system-x86_64'
/** For `installTools`. */
export const QEMU_TOOLS = { [QEMU]: 'qemu-system-x86' }
const MEMORY_MIB = '64'
const TIMEOUT_S = 60

// QEMU 7.2's microvm with all that a software KVM cannot do left out, and its serial port as example-vmm has it. A
// guest that ends itself leaves it with an odd status.
const QEMU_ARGS = [
  ...['-M', 'microvm,x-option-roms=off,isa-serial=on,rtc=off', '-global', 'virtio-mmio.force-legacy=false'],
  ...['-accel', 'kvm', '-cpu', 'host,-arch-capabilities', '-m', MEMORY_MIB, '-nodefaults', '-no-reboot'],
  ...['-nographic', '-serial', 'stdio', '-device', 'isa-debug-exit,iobase=0xf4'],
]

/** @typedef {{ kernel: string, cmdline: string, args: readonly string[] }} Guest */

/**
 * Runs a guest under example-vmm.
 * @param {Guest} guest
 * @returns {Promise<{ lines: string[], exits: Record<string, number> }>} what it printed; exits to user space by kind
 */
export async function runExampleVmm({ kernel, cmdline, args }) {
  const folder = mkdtempSync(join(tmpdir(), 'vmm-bench-'))
  const report = join(folder, 'report.json')
  try {
    const lines = await runProgram(
      process.execPath,
      [
        ...[EXAMPLE_VMM, 'run', '--kernel', kernel, '--entry', 'pvh', '--memory', MEMORY_MIB],
        // As QEMU has it without being asked.
        '--transparent-huge-pages',
        ...['--cmdline', cmdline, '--report', report, ...args],
      ],
      0,
    )
    return { lines, exits: JSON.parse(readFileSync(report, 'utf8')).exits }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/**
 * Runs a guest under QEMU, which is installed.
 * @param {Guest} guest
 * @returns {Promise<string[]>} what it printed
 */
export function runQemu({ kernel, cmdline, args }) {
  return runProgram(QEMU, [...QEMU_ARGS, '-kernel', kernel, '-append', cmdline, ...args], 1)
}

/** The lines that a program printed; an error that quotes them where it ended otherwise than expected. */
function runProgram(command, args, expectedStatus) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: TIMEOUT_S * 1000 })
    const kill = () => child.kill('SIGKILL')
    process.once('exit', kill)
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (data) => {
      stdout += data
    })
    child.stderr.on('data', (data) => {
      stderr += data
    })
    child.on('error', reject)
    child.on('close', (status, signal) => {
      process.off('exit', kill)
      if (status === expectedStatus && !stdout.includes('died: ')) {
        resolve(stdout.replaceAll('\r', '').trimEnd().split('\n'))
      } else {
        reject(
          new Error(`${[command, ...args].join(' ')}\nended with ${signal ?? status}:\n${stdout}${stderr}`),
        )
      }
    })
  })
}

/** Ticks of a guest's time stamp counter in a second. */
export function ticksPerSecond() {
  const kvm = Kvm.open()
  const vm = kvm.createVm()
  try {
    return vm.createVcpu(0).getTscKhz() * 1000
  } finally {
    vm.close()
    kvm.close()
  }
}
