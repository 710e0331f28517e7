/**
 * What the user is told of devices that fail while the VM runs. A guest can repeat a request that fails as often as it likes:
 * it must not fill its host's log.
 */

/** Warnings that are shown. */
export const WARNINGS_MAX = 10

/** Gives a function that passes the first warnings on, says once that there are more, and then nothing. */
export function limitedWarnings(show: (message: string) => void): (message: string) => void {
  let count = 0
  return (message) => {
    count += 1
    if (count <= WARNINGS_MAX) show(message)
    else if (count === WARNINGS_MAX + 1) show('there are more such errors, which are not shown')
  }
}
