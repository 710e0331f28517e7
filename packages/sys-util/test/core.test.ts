import { createMemfd, EventFd, installNoopHandler, ioctlRaw, Mapping } from '@vmm/sys-util'
import { expect, test } from 'vitest'

test('a', () => {
  const e = new EventFd()
  e.write(5)
  e.write(2 ** 33)
  expect(e.read()).toBe(2 ** 33 + 5)
  expect(e.read()).toBe(0)
  e.close()
  e.close()
  const m = new Mapping({ size: 1 << 20 })
  const v = new DataView(m.view())
  const v2 = new DataView(m.view())
  v.setUint32(4, 7)
  expect(v2.getUint32(4)).toBe(7)
  m.close()
  expect(() => v.getUint8(0)).toThrow(TypeError)
  expect(ioctlRaw(-1, 0xae00)).toBe(-9)
  installNoopHandler(40)
  const f = createMemfd('x', 8192)
  const m2 = new Mapping({ size: 8192, fd: f.fd })
  new Uint8Array(m2.view())[0] = 1
  f.close()
  m2.close()
})
