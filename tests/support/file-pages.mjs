/**
 * A provider of pages over the memory file of a snapshot. It counts what it is asked for, and fails when it is told to.
 */
import { closeSync, openSync, readSync } from 'node:fs'

const ASKED = 0
const FAILS = 1

export default ({ path, control }) => {
  const words = new Int32Array(control)
  const fd = openSync(path)
  return {
    fill(address, into) {
      if (Atomics.load(words, FAILS) !== 0) throw new Error('the store has gone')
      Atomics.add(words, ASKED, into.length)
      return readSync(fd, into, 0, into.length, address)
    },
    close: () => closeSync(fd),
  }
}
