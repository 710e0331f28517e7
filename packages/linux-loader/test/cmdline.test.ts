import { describe, expect, it } from 'vitest'
import { Cmdline, COMMAND_LINE_SIZE, writeCmdline } from '../src/cmdline.ts'
import { expectLoaderError } from './expect-error.ts'
import { PlainMemory } from './plain-memory.ts'

describe('Cmdline', () => {
  it('separates what is inserted by single spaces', () => {
    const cmdline = new Cmdline()
    cmdline.insert('console', 'ttyS0')
    cmdline.insertStr('  quiet root=UUID=1-2 ')
    cmdline.insertMultiple('mem', ['1G', '2G'])
    expect(cmdline.toString()).toBe('console=ttyS0 quiet root=UUID=1-2 mem=1G,2G')
    expect(cmdline.byteLength).toBe(cmdline.toString().length + 1)
  })

  it('counts the NUL into its capacity', () => {
    const tight = new Cmdline(4)
    tight.insert('a', 'b')
    expectLoaderError(
      'ERR_CMDLINE_TOO_LONG',
      () => tight.insertStr('c'),
      /takes 6 bytes with its NUL, but at most 4/,
    )
    expect(tight.toString()).toBe('a=b')
    const ten = new Cmdline(10)
    ten.insert('ab', 'ba')
    expectLoaderError('ERR_CMDLINE_TOO_LONG', () => ten.insert('c', 'da'))
    ten.insert('c', 'd')
    expect(ten.byteLength).toBe(10)
  })

  it('counts the separator of init arguments into its capacity', () => {
    const cmdline = new Cmdline(11)
    cmdline.insert('ab', 'ba')
    expectLoaderError('ERR_CMDLINE_TOO_LONG', () => cmdline.insertInitArgs('da'))
    cmdline.insertInitArgs('d')
    expect(cmdline.toString()).toBe('ab=ba -- d')
    expect(cmdline.byteLength).toBe(11)
  })

  it('keeps kernel arguments before init arguments, whatever the order', () => {
    const cmdline = Cmdline.from('quiet -- -v')
    cmdline.insertStr('debug')
    cmdline.insertInitArgs('"a b"')
    cmdline.insertStr('ro -- x')
    expect(cmdline.toString()).toBe('quiet debug ro -- -v "a b" x')
  })

  it('splits at -- only where it is a word outside quotes', () => {
    expect(Cmdline.from('a="x -- y" b--c --d e-- -- f -- g').toString()).toBe(
      'a="x -- y" b--c --d e-- -- f -- g',
    )
    const cmdline = Cmdline.from('a="x -- y" --d -- f')
    cmdline.insertStr('last')
    expect(cmdline.toString()).toBe('a="x -- y" --d last -- f')
    expect(Cmdline.from('a --').toString()).toBe('a')
  })

  it('refuses init arguments alone', () => {
    expectLoaderError('ERR_CMDLINE_NO_BOOT_ARGS', () => new Cmdline().insertInitArgs('-v'))
    expectLoaderError('ERR_CMDLINE_NO_BOOT_ARGS', () => Cmdline.from('-- -v'))
  })

  it.each([
    ['a b', 'c', 'ERR_CMDLINE_SPACE'],
    ['a', 'b c', 'ERR_CMDLINE_SPACE'],
    ['a=', 'b', 'ERR_CMDLINE_EQUALS'],
    ['a', 'b=c', 'ERR_CMDLINE_EQUALS'],
    ['💖', 'b', 'ERR_CMDLINE_CHARACTER'],
    ['a', '💖', 'ERR_CMDLINE_CHARACTER'],
    ['a', 'b\nc', 'ERR_CMDLINE_CHARACTER'],
    ['a', 'b\0c', 'ERR_CMDLINE_CHARACTER'],
    ['', 'b', 'ERR_CMDLINE_EMPTY'],
    ['a', '', 'ERR_CMDLINE_EMPTY'],
    ['a', '"b', 'ERR_CMDLINE_QUOTE'],
    ['a', 'b"', 'ERR_CMDLINE_QUOTE'],
    ['a', '"', 'ERR_CMDLINE_QUOTE'],
    ['a', 'b"c"d', 'ERR_CMDLINE_QUOTE'],
    ['a', '"b"c"', 'ERR_CMDLINE_QUOTE'],
    ['"a"', 'b', 'ERR_CMDLINE_QUOTE'],
  ] as const)('refuses key %j with value %j', (key, value, code) => {
    const cmdline = new Cmdline()
    expectLoaderError(code, () => cmdline.insert(key, value))
    expectLoaderError(code, () => cmdline.insertMultiple(key, ['x', value]))
    expect(cmdline.toString()).toBe('')
  })

  it('takes spaces and = in quotes', () => {
    const cmdline = new Cmdline()
    cmdline.insert('dyndbg', '"file a.c +p; k=v"')
    expect(cmdline.toString()).toBe('dyndbg="file a.c +p; k=v"')
  })

  it('refuses text with an open quote, no values, no text and no capacity', () => {
    expectLoaderError('ERR_CMDLINE_QUOTE', () => new Cmdline().insertStr('a="b c'))
    expectLoaderError('ERR_CMDLINE_CHARACTER', () => new Cmdline().insertStr('é'), /U\+00E9 at 0/)
    expectLoaderError('ERR_CMDLINE_EMPTY', () => new Cmdline().insertMultiple('a', []))
    expectLoaderError('ERR_CMDLINE_EMPTY', () => new Cmdline().insertStr('  '))
    expectLoaderError('ERR_CMDLINE_EMPTY', () => new Cmdline().insertInitArgs(''))
    expectLoaderError('ERR_LOADER_ARGUMENT', () => new Cmdline(0))
    expectLoaderError('ERR_LOADER_ARGUMENT', () => new Cmdline(1.5))
  })

  it.each([
    [1, 0, 1, undefined, 'virtio_mmio.device=1@0x0:1'],
    [2 * 1024, 0x100, 2, undefined, 'virtio_mmio.device=2K@0x100:2'],
    [3 * 2 ** 20, 0x1000, 3, undefined, 'virtio_mmio.device=3M@0x1000:3'],
    [4 * 2 ** 30, 0x10000, 4, 42, 'virtio_mmio.device=4G@0x10000:4:42'],
    [1025, 0x10000, 4, 0, 'virtio_mmio.device=1025@0x10000:4:0'],
  ] as const)('tells of a virtio-mmio device of %d bytes', (size, address, irq, id, expected) => {
    const cmdline = new Cmdline()
    cmdline.virtioMmioDevice(size, address, irq, id)
    expect(cmdline.toString()).toBe(expected)
  })

  it.each([
    [0, 0, 1],
    [-1, 0, 1],
    [1, -1, 1],
    [1, Number.MAX_SAFE_INTEGER, 1],
    [1, 0, -1],
    [1, 0, 1.5],
  ] as const)('refuses a virtio-mmio device of %d bytes at %d with IRQ %d', (size, address, irq) => {
    expectLoaderError('ERR_LOADER_ARGUMENT', () => new Cmdline().virtioMmioDevice(size, address, irq))
  })

  it('equals another of the same text and capacity', () => {
    expect(Cmdline.from('a b').equals(Cmdline.from(' a b'))).toBe(true)
    expect(Cmdline.from('a b').equals(Cmdline.from('a c'))).toBe(false)
    expect(Cmdline.from('a b').equals(Cmdline.from('a b', 10))).toBe(false)
    expect(new Cmdline().capacity).toBe(COMMAND_LINE_SIZE)
  })

  it('ends its bytes with a NUL', () => {
    expect(Cmdline.from('ab').toBytes()).toEqual(Uint8Array.of(0x61, 0x62, 0))
    expect(new Cmdline().toBytes()).toEqual(Uint8Array.of(0))
  })
})

describe('writeCmdline', () => {
  const SIZE = 0x1000
  const memory = new PlainMemory([{ start: 0, size: SIZE }])

  it('fits to the last byte with its NUL', () => {
    memory.fill(0, SIZE, 0xff)
    expect(writeCmdline(memory, SIZE - 6, Cmdline.from('12345'))).toBe(6)
    expect(Buffer.from(memory.read(SIZE - 6, 6)).toString('latin1')).toBe('12345\0')
  })

  it.each([SIZE - 5, SIZE, 2 ** 53 - 5, Number.MAX_SAFE_INTEGER, -1])('does not fit at %d', (address) => {
    expectLoaderError('ERR_CMDLINE_DOES_NOT_FIT', () => writeCmdline(memory, address, Cmdline.from('12345')))
  })

  it('writes one NUL for an empty line', () => {
    memory.fill(0, 16, 0xff)
    expect(writeCmdline(memory, 0, new Cmdline())).toBe(1)
    expect(memory.read(0, 2)).toEqual(Uint8Array.of(0, 0xff))
  })
})
