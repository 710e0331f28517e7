/**
 * /dev/kvm itself: what this KVM can do, and new VMs. Documentation/virt/kvm/api.rst, "system ioctls".
 */
import { errnoName, openPath, SystemError } from '@vmm/sys-util'
import {
  KVM_CAP_MAX_VCPU_ID,
  KVM_CAP_MAX_VCPUS,
  KVM_CAP_NR_MEMSLOTS,
  KVM_CAP_NR_VCPUS,
} from './constants/capabilities.ts'
import { KVM_API_VERSION } from './constants/flags.ts'
import { getCpuid, KVM_MAX_CPUID_ENTRIES } from './cpuid.ts'
import { KvmError } from './errors.ts'
import { Handle, request, requestRaw } from './handle.ts'
import { getIndexList, getMsrs } from './msr.ts'
import type { CpuidEntry, Msr } from './structs/lists.ts'
import { Vm } from './vm.ts'

const O_RDWR = 0o2
const O_CLOEXEC = 0o2000000
const DEFAULT_PATH = '/dev/kvm'
/** What a kernel that does not answer KVM_CAP_NR_VCPUS is to be taken to say: api.rst, 4.4. */
const DEFAULT_RECOMMENDED_VCPUS = 4

/** How to open the device. */
export interface KvmOpenOptions {
  /** Where the device is; default `/dev/kvm`. */
  readonly path?: string
  /** Whether programs that this process executes do not inherit the descriptor; default true. */
  readonly closeOnExec?: boolean
}

/** The KVM of this host. */
export class Kvm extends Handle {
  private constructor(fd: number) {
    super(fd)
  }

  /**
   * Opens the device.
   * @throws KvmError ERR_KVM_NOT_FOUND, ERR_KVM_ACCESS_DENIED, ERR_KVM_API_VERSION
   * @throws SystemError for everything else
   */
  static open(options: KvmOpenOptions = {}): Kvm {
    const { path = DEFAULT_PATH, closeOnExec = true } = options
    const kvm = new Kvm(openDevice(path, O_RDWR | (closeOnExec ? O_CLOEXEC : 0)))
    const version = requestRaw(kvm, 'KVM_GET_API_VERSION')
    if (version === KVM_API_VERSION) return kvm
    kvm.close()
    throw new KvmError(
      'ERR_KVM_API_VERSION',
      version < 0
        ? `${path} is not the device of KVM: KVM_GET_API_VERSION gives ${errnoName(-version)}`
        : `${path} speaks version ${version} of the KVM API, expected ${KVM_API_VERSION}`,
    )
  }

  /** Takes over an open descriptor of the device, for example one that a jailer passed on. */
  static fromFd(fd: number): Kvm {
    return new Kvm(fd)
  }

  /** The version of the API: 12, for ever. */
  get apiVersion(): number {
    return request(this, 'KVM_GET_API_VERSION')
  }

  /**
   * What this KVM says of a capability: 0 where it lacks it, 1 or a number that the capability defines where it has.
   * Some differ by VM: ask {@link Vm.checkExtension} then.
   * @param capability `KVM_CAP_*`
   */
  checkExtension(capability: number): number {
    return request(this, 'KVM_CHECK_EXTENSION', capability)
  }

  /** Whether this KVM has a capability at all. */
  hasExtension(capability: number): boolean {
    return this.checkExtension(capability) !== 0
  }

  /** Bytes of a vCPU's mapping: the run page, the page for port I/O data, and the ring of coalesced writes. */
  get vcpuMmapSize(): number {
    return request(this, 'KVM_GET_VCPU_MMAP_SIZE')
  }

  /** How many vCPUs a VM should have at most: as many as the host has CPUs. */
  get recommendedVcpus(): number {
    return this.checkExtension(KVM_CAP_NR_VCPUS) || DEFAULT_RECOMMENDED_VCPUS
  }

  /** How many vCPUs a VM can have. */
  get maxVcpus(): number {
    return this.checkExtension(KVM_CAP_MAX_VCPUS) || this.recommendedVcpus
  }

  /** One more than the highest vCPU id. */
  get maxVcpuId(): number {
    return this.checkExtension(KVM_CAP_MAX_VCPU_ID) || this.maxVcpus
  }

  /** How many memory slots a VM can have. */
  get memorySlots(): number {
    return this.checkExtension(KVM_CAP_NR_MEMSLOTS)
  }

  /**
   * The CPUID leaves that this host and KVM support: what to filter and give to {@link Vcpu.setCpuid2}.
   * @param max 1 to 256, the default
   * @throws SystemError E2BIG where there are more
   */
  supportedCpuid(max: number = KVM_MAX_CPUID_ENTRIES): CpuidEntry[] {
    return getCpuid(this, 'KVM_GET_SUPPORTED_CPUID', max)
  }

  /** The CPUID features that KVM emulates although the host lacks them; slow, and not to be shown by default. */
  emulatedCpuid(max: number = KVM_MAX_CPUID_ENTRIES): CpuidEntry[] {
    return getCpuid(this, 'KVM_GET_EMULATED_CPUID', max)
  }

  /** The Hyper-V leaves that KVM supports, where KVM_CAP_SYS_HYPERV_CPUID is there. */
  supportedHypervCpuid(max: number = KVM_MAX_CPUID_ENTRIES): CpuidEntry[] {
    return getCpuid(this, 'KVM_GET_SUPPORTED_HV_CPUID', max)
  }

  /** The MSRs that make up a guest's state, to be saved and restored. */
  msrIndexList(): number[] {
    return getIndexList(this, 'KVM_GET_MSR_INDEX_LIST')
  }

  /** The MSRs that tell features of the host, to be read by {@link getMsrs}. */
  msrFeatureIndexList(): number[] {
    return getIndexList(this, 'KVM_GET_MSR_FEATURE_INDEX_LIST')
  }

  /**
   * Reads feature MSRs of the host.
   * @param indices up to 256
   * @returns those read: where KVM refuses one, it and all after it are missing
   */
  getMsrs(indices: readonly number[]): Msr[] {
    return getMsrs(this, indices)
  }

  /** The machine-check capabilities (MCG_CAP) that vCPUs can have. */
  supportedMceCapabilities(): bigint {
    const word = new BigUint64Array(1)
    request(this, 'KVM_X86_GET_MCE_CAP_SUPPORTED', word)
    return word[0] ?? 0n
  }

  /**
   * A new VM, without memory or vCPUs.
   * @param type `KVM_X86_*_VM`; default 0, an ordinary one
   */
  createVm(type = 0): Vm {
    // Before there is anything to be closed.
    const { vcpuMmapSize } = this
    let fd = -EINTR
    // It takes milliseconds: a signal, as of a profiler, may come meanwhile, and the kernel gives up for it.
    for (let left = CREATE_VM_TRIES; fd === -EINTR && left > 0; left -= 1) {
      fd = requestRaw(this, 'KVM_CREATE_VM', type)
    }
    return Vm.fromFd(fd >= 0 ? fd : request(this, 'KVM_CREATE_VM', type), { vcpuMmapSize })
  }
}

const EINTR = 4
/** A signal that comes every time is not one to wait for the end of. */
const CREATE_VM_TRIES = 100

function openDevice(path: string, flags: number): number {
  try {
    return openPath(path, flags)
  } catch (error) {
    if (!(error instanceof SystemError)) throw error
    if (error.code === 'ENOENT' || error.code === 'ENODEV' || error.code === 'ENXIO') {
      const message = `${path} is not there: this kernel offers no KVM, or its module (kvm_intel, kvm_amd) is not loaded`
      throw new KvmError('ERR_KVM_NOT_FOUND', message, { cause: error })
    }
    if (error.code === 'EACCES' || error.code === 'EPERM') {
      const message = `${path} may not be opened by this user: it is for root, or for members of its group, "kvm" as a rule`
      throw new KvmError('ERR_KVM_ACCESS_DENIED', message, { cause: error })
    }
    throw error
  }
}
