import { describe, expect, it } from 'vitest'
import { createPioBus } from '../../src/bus/bus.ts'
import { BOOT_MARKER, BOOT_TIMER_PORT, BOOT_TIMER_SIZE, BootTimer } from '../../src/debug/boot-timer.ts'
import { EXIT_PORT, EXIT_PORT_SIZE, ExitPort } from '../../src/debug/exit-port.ts'
import { ManualTime } from '../support.ts'

const data = new DataView(new ArrayBuffer(4))

describe('exit port', () => {
  it.each([
    [1, 0xef],
    [2, 0xbeef],
    [4, 0xdeadbeef],
  ])('reports a value of %i bytes, once', (size, expected) => {
    const values: number[] = []
    const pio = createPioBus()
    pio.register({
      base: EXIT_PORT,
      size: EXIT_PORT_SIZE,
      device: new ExitPort((value) => values.push(value)),
    })
    data.setUint32(0, 0xdeadbeef, true)
    pio.write(EXIT_PORT, data, 0, size)
    pio.write(EXIT_PORT, data, 0, size)
    expect(values).toEqual([expected])
  })

  it('ignores its upper ports, and reads 0', () => {
    const values: number[] = []
    const port = new ExitPort((value) => values.push(value))
    port.write(1, 5)
    expect(port.read()).toBe(0)
    expect(values).toEqual([])
  })
})

describe('boot timer', () => {
  it('reports the time of the first boot marker, and nothing else', () => {
    const time = new ManualTime(1000)
    const times: number[] = []
    const pio = createPioBus()
    const device = new BootTimer((at) => times.push(at), time)
    pio.register({ base: BOOT_TIMER_PORT, size: BOOT_TIMER_SIZE, device })
    for (const value of [BOOT_MARKER - 1, BOOT_MARKER, BOOT_MARKER]) {
      time.advance(10)
      data.setUint8(0, value)
      pio.write(BOOT_TIMER_PORT, data, 0, 1)
    }
    device.write(1, BOOT_MARKER)
    expect(times).toEqual([1020])
    expect(device.read()).toBe(0)
  })

  it('goes by the time since the process began unless given a clock', () => {
    const before = performance.now()
    let at = Number.NaN
    new BootTimer((time) => {
      at = time
    }).write(0, BOOT_MARKER)
    expect(at).toBeGreaterThanOrEqual(before)
    expect(at).toBeLessThanOrEqual(performance.now())
  })
})
