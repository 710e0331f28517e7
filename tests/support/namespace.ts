/**
 * A network namespace for this process: nothing that a test does to interfaces is seen outside, and all of it is gone with the process, however
 * that ends. Programs that are started are in it, too.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, existsSync, openSync, writeFileSync } from 'node:fs'
import koffi from 'koffi'
import { afterAll, beforeAll, describe } from 'vitest'

const CLONE_NEWNET = 0x4000_0000

const libc = koffi.load('libc.so.6')
const unshare = libc.func('int unshare(int flags)')
const setns = libc.func('int setns(int fd, int type)')

const IP = '/sbin/ip'

/** Runs `ip` with words as on a command line. */
export function ip(words: string): string {
  return execFileSync(IP, words.split(' '), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

/** Enters a new namespace. @returns what leaves it; undefined where that may not be */
function enter(): (() => void) | undefined {
  const before = openSync('/proc/thread-self/ns/net', 'r')
  if (unshare(CLONE_NEWNET) === 0) {
    return () => {
      setns(before, CLONE_NEWNET)
      closeSync(before)
    }
  }
  closeSync(before)
  return undefined
}

function whyNot(): string | undefined {
  if (!existsSync('/dev/net/tun')) return 'there is no /dev/net/tun'
  if (!existsSync(IP)) return 'there is no ip: install iproute2'
  const leave = enter()
  leave?.()
  return leave === undefined ? 'no right to make a network namespace' : undefined
}

/** `describe` for tests that need interfaces of their own. In there this thread is in a namespace that has `lo` alone. */
export function describeInNamespace(name: string, body: () => void): void {
  const reason = whyNot()
  describe.skipIf(reason !== undefined)(reason === undefined ? name : `${name} (skipped: ${reason})`, () => {
    let leave: (() => void) | undefined
    beforeAll(() => {
      leave = enter()
      // Interfaces that come up say nothing by themselves.
      const noIpv6 = '/proc/sys/net/ipv6/conf/default/disable_ipv6'
      if (existsSync(noIpv6)) writeFileSync(noIpv6, '1')
    })
    afterAll(() => leave?.())
    body()
  })
}
