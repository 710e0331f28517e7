/**
 * Cuts an ArrayBuffer off its memory, so that a stale view throws a TypeError instead of reaching memory that
 * has been unmapped. `structuredClone` will not do: Node.js copies buffers over foreign memory, without a word.
 */
type Transfer = (this: ArrayBuffer, length: number) => ArrayBuffer

let transfer: Transfer | undefined

function findTransfer(): Transfer {
  const own = (ArrayBuffer.prototype as { transfer?: Transfer }).transfer
  if (own !== undefined) return own
  // Node 20's V8 has it behind a flag, and contexts made after the flag is set have it. Not imported above: these two
  // modules take some milliseconds to load, and most processes end without closing a mapping.
  process.getBuiltinModule('node:v8').setFlagsFromString('--harmony-rab-gsab-transfer')
  return process.getBuiltinModule('node:vm').runInNewContext('ArrayBuffer.prototype.transfer')
}

/** Detaches a buffer: its length is 0 from now on, and every access through a view of it throws a TypeError. */
export function detach(buffer: ArrayBuffer): void {
  transfer ??= findTransfer()
  // To a buffer of no bytes: V8 would else count the memory as in use until it next collects garbage.
  transfer.call(buffer, 0)
}
