/**
 * Whether the tests that need KVM can run. Without /dev/kvm they are skipped and say why; with CI set they run
 * all the same, and fail.
 */
import { accessSync, constants } from 'node:fs'
import { isInterpretingKvm } from '@vmm/microvm'
import { describe } from 'vitest'

function whyNoKvm(): string | undefined {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK)
    return undefined
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
      ? 'there is no /dev/kvm'
      : 'no right to /dev/kvm'
  }
}

const reason = process.env['CI'] ? undefined : whyNoKvm()

/** `describe` for tests that need a working /dev/kvm. */
export function describeWithKvm(name: string, body: () => void): void {
  withKvm(name, 0, body)
}

/**
 * A KVM that interprets guest kernels lets, on a busy host, one program of the guest in some hundred die of a segmentation
 * fault: any, and never the same. A test that fails there is tried again, and the report says so; elsewhere it has failed.
 */
const LINUX_RETRIES = isInterpretingKvm() ? 3 : 0

/** As {@link describeWithKvm}, for tests that run programs in Linux. They can be run twice. */
export function describeLinux(name: string, body: () => void): void {
  withKvm(name, LINUX_RETRIES, body)
}

function withKvm(name: string, retry: number, body: () => void): void {
  const title = reason === undefined ? name : `${name} (skipped: ${reason})`
  describe.skipIf(reason !== undefined)(title, { retry }, body)
}
