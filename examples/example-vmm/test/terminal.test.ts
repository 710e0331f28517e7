import { once } from 'node:events'
import { expect, test } from 'vitest'
import { EscapeFilter } from '../src/terminal.ts'

/** What the guest gets of what is typed, chunk by chunk, and what the escapes did. */
async function type(...chunks: readonly string[]) {
  const did: string[] = []
  const filter = new EscapeFilter({
    quit: () => did.push('quit'),
    help: () => did.push('help'),
  })
  let guest = ''
  filter.on('data', (data: Buffer) => {
    guest += data.toString('latin1')
  })
  for (const chunk of chunks) filter.write(chunk, 'latin1')
  filter.end()
  await once(filter, 'end')
  return { guest, did }
}

test('passes on what is no escape, byte for byte', async () => {
  const everything = String.fromCharCode(...Array.from({ length: 256 }, (_, byte) => byte)).replace(
    '\x01',
    '',
  )
  expect(await type(everything)).toEqual({ guest: everything, did: [] })
})

test('Ctrl-A x quits, in either case', async () => {
  expect(await type('ab\x01x')).toEqual({ guest: 'ab', did: ['quit'] })
  expect(await type('\x01X')).toEqual({ guest: '', did: ['quit'] })
})

test('an escape may come in two chunks', async () => {
  expect(await type('a\x01', 'xb')).toEqual({ guest: 'ab', did: ['quit'] })
})

test('Ctrl-A Ctrl-A and Ctrl-A a are a Ctrl-A for the guest', async () => {
  expect(await type('\x01\x01|\x01a')).toEqual({ guest: '\x01|\x01', did: [] })
})

test('Ctrl-A h helps, and other keys after Ctrl-A are swallowed', async () => {
  expect(await type('1\x01h2\x01z3')).toEqual({ guest: '123', did: ['help'] })
})
