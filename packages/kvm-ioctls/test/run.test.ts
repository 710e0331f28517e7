import { describe, expect, test } from 'vitest'
import { CODE_ADDRESS, expectExit, realMode, skipWithoutKvm } from './harness.ts'

describe.skipIf(skipWithoutKvm)('a real-mode guest', () => {
  test('ends its runs with what it does to ports and memory, in order', async () => {
    const { vcpu, memory } = realMode(
      [
        // biome-ignore format: one instruction a line
        0xba,
        0xf8,
        0x03, // mov dx, 0x3f8
        0x00,
        0xd8, // add al, bl
        0xee, // out dx, al
        0xec, // in al, dx
        0xa2,
        0x00,
        0x20, // mov [0x2000], al
        0xc6,
        0x06,
        0x00,
        0x80,
        0x5a, // mov byte [0x8000], 0x5a
        0x8a,
        0x16,
        0x00,
        0x90, // mov dl, [0x9000]
        0xf4, // hlt
      ],
      { rax: 2n, rbx: 3n },
    )

    const out = expectExit(await vcpu.run(), 'io-out')
    expect([out.port, out.size, out.count, out.value]).toEqual([0x3f8, 1, 1, 5])

    const input = expectExit(await vcpu.run(), 'io-in')
    expect([input.port, input.size, input.count]).toEqual([0x3f8, 1, 1])
    input.value = 0x77

    expectExit(await vcpu.run(), 'hlt')
    expect(memory[0x2000]).toBe(0x77)
    expect(memory[0x8000]).toBe(0x5a)
    expect(vcpu.getRegs().rip).toBe(BigInt(CODE_ADDRESS + 20))
  })
})
