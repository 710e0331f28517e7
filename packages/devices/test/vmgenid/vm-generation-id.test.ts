import { describe, expect, it } from 'vitest'
import { DevicesError } from '../../src/error.ts'
import {
  type GenerationIdMemory,
  VM_GENERATION_ID_SIZE,
  VmGenerationId,
  type VmGenerationIdState,
} from '../../src/vmgenid/vm-generation-id.ts'
import { CountingInterrupt } from '../support.ts'

const SIZE = 4096
const ADDRESS = 0x800

class Memory implements GenerationIdMemory {
  readonly bytes = new Uint8Array(SIZE)

  checkRange(address: number, length: number): boolean {
    return address + length <= SIZE
  }

  writeSlice(address: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, address)
  }

  get id(): string {
    return Buffer.from(this.bytes.subarray(ADDRESS, ADDRESS + VM_GENERATION_ID_SIZE)).toString('hex')
  }

  /** Bytes outside the ID that are no longer 0. */
  get strays(): number {
    return this.bytes.filter(
      (byte, at) => byte !== 0 && (at < ADDRESS || at >= ADDRESS + VM_GENERATION_ID_SIZE),
    ).length
  }
}

describe('the VM generation ID', () => {
  it('is in memory from the first, without an interrupt', () => {
    const memory = new Memory()
    const interrupt = new CountingInterrupt()
    new VmGenerationId(ADDRESS, { memory, interrupt })
    expect(memory.id).not.toBe('0'.repeat(32))
    expect(memory.strays).toBe(0)
    expect(interrupt.count).toBe(0)
  })

  it('is there before the interrupt that says so', () => {
    const memory = new Memory()
    const seen: string[] = []
    const id = new VmGenerationId(ADDRESS, {
      memory,
      interrupt: { trigger: () => seen.push(memory.id) },
      random: (target) => target.fill(seen.length + 1),
    })
    id.regenerate()
    id.regenerate()
    expect(seen).toEqual(['01'.repeat(16), '02'.repeat(16)])
  })

  it('is another one in every VM that goes on from a saved one', () => {
    const memory = new Memory()
    const state: VmGenerationIdState = JSON.parse(
      JSON.stringify(new VmGenerationId(ADDRESS, { memory }).state()),
    )
    const ids = new Set([memory.id])
    for (let clone = 0; clone < 10; clone++) {
      const interrupt = new CountingInterrupt()
      VmGenerationId.fromState(state, { memory, interrupt }).regenerate()
      ids.add(memory.id)
      expect(interrupt.count).toBe(1)
    }
    expect(ids.size).toBe(11)
    expect(memory.strays).toBe(0)
  })

  it.each([-8, 4, 0.5, Number.NaN, SIZE - 8, 2 ** 53])('cannot be at %d', (address) => {
    const memory = new Memory()
    const code = (run: () => unknown): string => {
      try {
        run()
        return 'none'
      } catch (error) {
        return (error as DevicesError).code
      }
    }
    expect(code(() => new VmGenerationId(address, { memory }))).toBe('ERR_DEVICE_OPTION')
    expect(code(() => VmGenerationId.fromState({ version: 1, address }, { memory }))).toBe('ERR_DEVICE_STATE')
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true)
  })

  it('refuses states that are none', () => {
    const memory = new Memory()
    for (const state of [null, {}, { version: 2, address: ADDRESS }, { version: 1, address: '2048' }]) {
      expect(() => VmGenerationId.fromState(state as never, { memory })).toThrow(DevicesError)
    }
  })
})
