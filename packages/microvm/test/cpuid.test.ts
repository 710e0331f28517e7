import type { CpuidEntry } from '@vmm/kvm-ioctls'
import { expect, test } from 'vitest'
import { vcpuCpuid } from '../src/cpuid.ts'

const LEAF_FEATURES = 1
const LEAF_TOPOLOGY = 0xb
const LEVEL_SMT = 1
const LEVEL_CORE = 2
const CX16 = 1 << 13
const HYPERVISOR = 2 ** 31
const HTT = 1 << 28

const entry = (leaf: number, index: number, registers: Partial<CpuidEntry> = {}): CpuidEntry => ({
  function: leaf,
  index,
  flags: 0,
  eax: 0,
  ebx: 0,
  ecx: 0,
  edx: 0,
  ...registers,
})

const supported = [
  entry(LEAF_FEATURES, 0, { ebx: 0xff00_0800, ecx: CX16 }),
  entry(LEAF_TOPOLOGY, 0, { edx: 99 }),
]

const find = (entries: readonly CpuidEntry[], leaf: number, index = 0) =>
  entries.find((candidate) => candidate.function === leaf && candidate.index === index)

test('each vCPU has its own APIC id and knows how many there are', () => {
  const features = find(vcpuCpuid(supported, { index: 200, cpus: 250, interpreted: false }), LEAF_FEATURES)
  expect(features?.ebx).toBe(((200 << 24) | (250 << 16) | 0x0800) >>> 0)
  expect(features?.edx).toBe(HTT)
  expect(features?.ecx).toBe((HYPERVISOR | CX16) >>> 0)
})

test('a single vCPU is alone in its package', () => {
  const entries = vcpuCpuid(supported, { index: 0, cpus: 1, interpreted: false })
  expect(find(entries, LEAF_FEATURES)?.edx).toBe(0)
  expect(find(entries, LEAF_TOPOLOGY, 1)).toMatchObject({ eax: 0, ebx: 1 })
})

test('topology leaves put all vCPUs into one package, whatever the host says', () => {
  const entries = vcpuCpuid(supported, { index: 4, cpus: 5, interpreted: false })
  expect(entries.filter((candidate) => candidate.function === LEAF_TOPOLOGY)).toMatchObject([
    { index: 0, eax: 0, ebx: 1, ecx: LEVEL_SMT << 8, edx: 4 },
    { index: 1, eax: 3, ebx: 5, ecx: (LEVEL_CORE << 8) | 1, edx: 4 },
    { index: 2, eax: 0, ebx: 0, ecx: 2, edx: 4 },
  ])
})

test('a host without topology leaves gets none', () => {
  const entries = vcpuCpuid([entry(LEAF_FEATURES, 0)], { index: 0, cpus: 2, interpreted: false })
  expect(entries.map((candidate) => candidate.function)).toEqual([LEAF_FEATURES])
})

test('interpreted guests are not told of CMPXCHG16B', () => {
  const features = find(vcpuCpuid(supported, { index: 0, cpus: 1, interpreted: true }), LEAF_FEATURES)
  expect((features?.ecx ?? CX16) & CX16).toBe(0)
})
