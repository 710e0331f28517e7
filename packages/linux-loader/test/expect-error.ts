import { expect } from 'vitest'
import { LoaderError, type LoaderErrorCode } from '../src/loader-error.ts'

/** Runs something that must throw a LoaderError with this code and, if given, a message like this. */
export const expectLoaderError = (code: LoaderErrorCode, run: () => unknown, message?: RegExp): void => {
  const error = thrownBy(run)
  expect(error).toBeInstanceOf(LoaderError)
  expect((error as LoaderError).code).toBe(code)
  if (message !== undefined) expect((error as LoaderError).message).toMatch(message)
}

const thrownBy = (run: () => unknown): unknown => {
  try {
    run()
  } catch (error) {
    return error
  }
  return undefined
}
