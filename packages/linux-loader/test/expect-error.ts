import { expect } from 'vitest'
import { LoaderError, type LoaderErrorCode } from '../src/loader-error.ts'

/** Runs something that must throw a LoaderError with this code and, if given, a message like this. */
export const expectLoaderError = (code: LoaderErrorCode, run: () => unknown, message?: RegExp): void => {
  let thrown: unknown
  try {
    run()
  } catch (error) {
    thrown = error
  }
  check(thrown, code, message)
}

/** The same for something asynchronous. */
export const expectRejection = async (
  code: LoaderErrorCode,
  promise: Promise<unknown>,
  message?: RegExp,
): Promise<void> => {
  const thrown: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  )
  check(thrown, code, message)
}

const check = (thrown: unknown, code: LoaderErrorCode, message: RegExp | undefined): void => {
  expect(thrown).toBeInstanceOf(LoaderError)
  expect((thrown as LoaderError).code).toBe(code)
  if (message !== undefined) expect((thrown as LoaderError).message).toMatch(message)
}
