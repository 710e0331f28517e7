import { type MemoryRegion, Vm } from '@vmm/kvm-ioctls'
import { Mapping } from '@vmm/sys-util'
import { afterEach, expect, test, vi } from 'vitest'
import { RegisterWindow } from '../src/register-window.ts'

afterEach(() => vi.restoreAllMocks())

test('a window that KVM does not take leaves no mapping', () => {
  const vm = Vm.fromFd(-1, { vcpuMmapSize: 0 })
  const refused = new Error('no memory')
  vi.spyOn(vm, 'checkExtension').mockReturnValue(1)
  let size = 0
  vi.spyOn(vm, 'setUserMemoryRegion').mockImplementation((region: MemoryRegion) => {
    size = region.size
    throw refused
  })
  const close = vi.spyOn(Mapping.prototype, 'close')
  expect(() => RegisterWindow.map(vm, 0)).toThrow(refused)
  expect(close.mock.contexts).toEqual([expect.objectContaining({ size, closed: true })])
})
