/**
 * What a module of pages exports.
 */

/** Knows the contents of guest memory. */
export interface PageProvider {
  /**
   * Gives the contents of pages. It is not asked for them again, nor for pages that the guest has given back: those are zeros.
   * Several calls may be under way at a time. Files are best read synchronously: asynchronous reads wait for threads of libuv's
   * pool, which is shared with all that waits for pages.
   * @param address guest address of the first byte, a multiple of 4096
   * @param into to be filled: the pages of one window that are missing; not to be kept
   * @returns how many bytes were filled, all of `into`: anything less is a failure. Or `zeros` for pages of zeros, which cost nothing
   */
  fill(address: number, into: Uint8Array): number | 'zeros' | Promise<number | 'zeros'>
  /** Lets go of what it has. */
  close?(): void | Promise<void>
}

/**
 * The default export of a module of pages: called once, in a worker thread.
 * @param data `PageServerOptions.data`
 *
 * @example
 * ```js
 * import { closeSync, openSync, readSync } from 'node:fs'
 *
 * export default ({ path }) => {
 *   const fd = openSync(path, 'r')
 *   return {
 *     fill: (address, into) => readSync(fd, into, 0, into.length, address),
 *     close: () => closeSync(fd),
 *   }
 * }
 * ```
 */
export type OpenPageProvider<Data = unknown> = (data: Data) => PageProvider | Promise<PageProvider>
