/** The kernel and the initrd, from their files into guest memory. */
import {
  type AddressRange,
  ImageFile,
  type LoadedKernel,
  LoaderError,
  loadInitrd,
  loadKernel,
} from '@vmm/linux-loader'
import type { GuestMemory } from '@vmm/vm-memory'
import { Cleanup } from './cleanup.ts'
import { MicroVmError } from './error.ts'
import { isInterpretingKvm } from './interpreting.ts'
import type { MicroVmSettings } from './options.ts'

/** What was loaded. */
export interface LoadedImages {
  readonly kernel: LoadedKernel
  readonly initrd: AddressRange | undefined
}

/** @throws MicroVmError ERR_MICROVM_IMAGE, and LoaderError for a file that cannot be opened or read */
export async function loadImages(memory: GuestMemory, settings: MicroVmSettings): Promise<LoadedImages> {
  const files = new Cleanup()
  let path = ''
  try {
    const { entry, initrd: initrdPath } = settings
    path = settings.kernel
    const kernel = await loadKernel(memory, files.add(new ImageFile(path)), {
      unpack: entry === 'auto' ? isInterpretingKvm() : entry !== 'bzimage',
      protocol: entry === 'pvh' ? 'pvh' : 'linux64',
    })
    if (initrdPath === undefined) return { kernel, initrd: undefined }
    path = initrdPath
    return { kernel, initrd: loadInitrd(memory, files.add(new ImageFile(path)), { kernel }) }
  } catch (error) {
    // What cannot be opened or read names its file already.
    if (!(error instanceof LoaderError) || error.code === 'ERR_IMAGE_FILE') throw error
    throw new MicroVmError('ERR_MICROVM_IMAGE', `${path}: ${error.message}`, { cause: error })
  } finally {
    files.close()
  }
}
