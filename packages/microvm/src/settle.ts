/** Waiting for what several parts of a VM have under way. */

/** Waits for all, whatever one of them rejects with. @throws what the first that failed has rejected with */
export async function allSettled(promises: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(promises)
  const failed = results.find((result) => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
