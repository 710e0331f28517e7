import { describe, expect, test } from 'vitest'
import * as capabilities from '../src/constants/capabilities.ts'
import * as exits from '../src/constants/exits.ts'
import * as flags from '../src/constants/flags.ts'
import * as msrs from '../src/constants/msr-index.ts'
import * as requests from '../src/constants/requests.ts'
import { Struct } from '../src/layout/struct.ts'
import * as devices from '../src/structs/devices.ts'
import * as events from '../src/structs/events.ts'
import * as lists from '../src/structs/lists.ts'
import * as registers from '../src/structs/registers.ts'
import * as run from '../src/structs/run.ts'
import * as vm from '../src/structs/vm.ts'
import { evaluate, macros, print, skipWithoutCompiler } from './c-program.ts'

const exported: readonly unknown[] = Object.values({
  ...devices,
  ...events,
  ...lists,
  ...registers,
  ...run,
  ...vm,
})
const structs = exported.filter((value): value is Struct<object> => value instanceof Struct)

/** Structures younger than Linux 6.1, and a macro that came with each. */
const SINCE: Readonly<Record<string, string>> = {
  kvm_userspace_memory_region2: 'KVM_SET_USER_MEMORY_REGION2',
  kvm_create_guest_memfd: 'KVM_CREATE_GUEST_MEMFD',
  kvm_memory_attributes: 'KVM_SET_MEMORY_ATTRIBUTES',
  'kvm_run.memory_fault': 'KVM_EXIT_MEMORY_FAULT',
}

/** The exits are parts of `struct kvm_run`: their sizes are not its. */
function hasSize(struct: Struct<object>): boolean {
  return !struct.name.startsWith('kvm_run.')
}

/** For `kvm_run.io`: the members are below `io` in `struct kvm_run`. */
function inC(struct: Struct<object>): { name: string; prefix: string } {
  const [name = '', ...path] = struct.name.split('.')
  return { name, prefix: path.map((part) => `${part}.`).join('') }
}

function statements(struct: Struct<object>): string[] {
  const { name, prefix } = inC(struct)
  const members = struct
    .members()
    .flatMap(({ path }) => [
      print(`${struct.name}:${path}:offset`, `offsetof(struct ${name}, ${prefix}${path})`),
      print(`${struct.name}:${path}:size`, `sizeof(((struct ${name} *)0)->${prefix}${path})`),
    ])
  return hasSize(struct) ? [print(struct.name, `sizeof(struct ${name})`), ...members] : members
}

const known = skipWithoutCompiler ? new Map<string, string>() : macros()
const provable = structs.filter((struct) => known.has(SINCE[struct.name] ?? 'KVM_API_VERSION'))
const answers = skipWithoutCompiler ? new Map<string, bigint>() : evaluate(provable.flatMap(statements))

describe.skipIf(skipWithoutCompiler)('the layout of', () => {
  for (const struct of structs) {
    const skip = !provable.includes(struct)
    test.skipIf(skip)(`${struct.name} is C's${skip ? ' (this host has older headers)' : ''}`, () => {
      const ours = struct.members().map(({ path, offset, size }) => ({ path, offset, size }))
      const theirs = ours.map(({ path }) => ({
        path,
        offset: Number(answers.get(`${struct.name}:${path}:offset`)),
        size: Number(answers.get(`${struct.name}:${path}:size`)),
      }))
      expect(ours).toEqual(theirs)
      if (hasSize(struct)) expect(struct.size).toBe(Number(answers.get(struct.name)))
    })
  }
})

describe.skipIf(skipWithoutCompiler)('the constants', () => {
  const ours = Object.entries({ ...capabilities, ...exits, ...flags, ...msrs, ...requests })
  const provableNames = ours.map(([name]) => name).filter((name) => known.has(name))
  const unproved = ours.map(([name]) => name).filter((name) => !known.has(name))

  test('have the values of the headers', () => {
    const values = evaluate(provableNames.map((name) => print(name, name)))
    expect(
      Object.fromEntries(
        ours.filter(([name]) => known.has(name)).map(([name, value]) => [name, BigInt(value)]),
      ),
    ).toEqual(Object.fromEntries([...values].map(([name, value]) => [name, value])))
    expect(provableNames.length).toBeGreaterThan(300)
  })

  test('that the headers lack are hardware MSRs, or younger than Linux 6.1', () => {
    const hardware = unproved.filter((name) => name.startsWith('MSR_') && !name.startsWith('MSR_KVM_'))
    expect(unproved.filter((name) => !hardware.includes(name) && !(name in YOUNG))).toEqual([])
  })

  test('have every capability that is not of another architecture', () => {
    const theirs = [...known.keys()].filter(
      (name) => name.startsWith('KVM_CAP_') && !OTHER_ARCHITECTURE.test(name),
    )
    expect(theirs.filter((name) => !(name in capabilities))).toEqual([])
  })

  test('have every reason for an exit that is not of another architecture', () => {
    const theirs = [...known.keys()].filter(
      (name) => name.startsWith('KVM_EXIT_') && !OTHER_ARCHITECTURE.test(name),
    )
    expect(theirs.filter((name) => !(name in exits))).toEqual([])
  })
})

const OTHER_ARCHITECTURE =
  /S390|PPC|_ARM|MIPS|SPAPR|RISCV|LOONGARCH|IA64|FSL|XICS|MPIC|HTAB|_RMA$|_RADIX|PAPR|_OSI$|_DCR$|_EPR$|SW_TLB|PCI_2_3|ASSIGN|_IOMMU$|_PIT$/

/** Constants younger than Linux 6.1, whose headers some hosts have; the values are those of Linux 6.18. */
const YOUNG: Readonly<Record<string, true>> = Object.fromEntries(
  [
    'KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP',
    'KVM_CAP_PMU_EVENT_MASKED_EVENTS',
    'KVM_CAP_USER_MEMORY2',
    'KVM_CAP_MEMORY_FAULT_INFO',
    'KVM_CAP_MEMORY_ATTRIBUTES',
    'KVM_CAP_GUEST_MEMFD',
    'KVM_CAP_VM_TYPES',
    'KVM_CAP_PRE_FAULT_MEMORY',
    'KVM_CAP_X86_APIC_BUS_CYCLES_NS',
    'KVM_CAP_X86_GUEST_MODE',
    'KVM_CAP_GUEST_MEMFD_FLAGS',
    'KVM_EXIT_MEMORY_FAULT',
    'KVM_EXIT_TDX',
    'KVM_SYSTEM_EVENT_TDX_FATAL',
    'KVM_MEMORY_EXIT_FLAG_PRIVATE',
    'KVM_RUN_X86_GUEST_MODE',
    'KVM_X86_DEFAULT_VM',
    'KVM_X86_SW_PROTECTED_VM',
    'KVM_X86_SEV_VM',
    'KVM_X86_SEV_ES_VM',
    'KVM_X86_SNP_VM',
    'KVM_X86_TDX_VM',
    'KVM_MEM_GUEST_MEMFD',
    'KVM_MEMORY_ATTRIBUTE_PRIVATE',
    'KVM_X86_QUIRK_SLOT_ZAP_ALL',
    'KVM_X86_QUIRK_STUFF_FEATURE_MSRS',
    'KVM_X86_QUIRK_IGNORE_GUEST_PAT',
    'KVM_PMU_EVENT_FLAG_MASKED_EVENTS',
    'KVM_SET_USER_MEMORY_REGION2',
    'KVM_SET_MEMORY_ATTRIBUTES',
    'KVM_CREATE_GUEST_MEMFD',
  ].map((name) => [name, true]),
)
