/**
 * How many runs libuv's thread pool can hold. A run holds one of its threads until it ends: one too many would wait for
 * a thread, for as long as the guests like, and so would every use of the file system and of DNS.
 */
import { readFileSync } from 'node:fs'
import { KvmError } from './errors.ts'

const DEFAULT_SIZE = 4
const MAX_SIZE = 1024

/** The size that libuv takes from the variable's value. */
function sizeFrom(value: string | undefined): number {
  if (value === undefined) return DEFAULT_SIZE
  const size = Number.parseInt(value, 10)
  if (!Number.isFinite(size) || size === 0) return 1
  // libuv has it unsigned.
  return size < 0 || size > MAX_SIZE ? MAX_SIZE : size
}

function environmentAtStart(): string | undefined {
  const entries = readFileSync('/proc/self/environ', 'latin1').split('\0')
  return entries.find((entry) => entry.startsWith('UV_THREADPOOL_SIZE='))?.slice('UV_THREADPOOL_SIZE='.length)
}

function environmentNow(): string | undefined {
  const { UV_THREADPOOL_SIZE } = process.env
  return UV_THREADPOOL_SIZE
}

let size: number | undefined
let held = 0

/** Takes a thread for a run. */
export function takeThread(): void {
  size ??= Math.max(sizeFrom(environmentNow()), sizeFrom(environmentAtStart()))
  if (held >= size) {
    throw new KvmError(
      'ERR_KVM_THREADPOOL_EXHAUSTED',
      `${held} runs hold all ${size} threads of the pool: set UV_THREADPOOL_SIZE before Node.js starts`,
    )
  }
  held++
}

/** Gives it back. */
export function giveThread(): void {
  held--
}
