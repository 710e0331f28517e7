/**
 * Whether the tests that need KVM can run. Without /dev/kvm they are skipped and say why; with CI set they run
 * all the same, and fail.
 */
import { accessSync, constants } from 'node:fs'
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
  const title = reason === undefined ? name : `${name} (skipped: ${reason})`
  describe.skipIf(reason !== undefined)(title, body)
}
