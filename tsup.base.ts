/**
 * How each package is built: ES modules for the oldest Node.js supported, bundled declarations, source maps that name
 * the sources beside them rather than repeating them.
 */
import { defineConfig, type Options } from 'tsup'

/** The tsup configuration of a package with these entries, and with whatever else it wants otherwise. */
export function library(
  entry: Record<string, string>,
  options: Options = {},
): ReturnType<typeof defineConfig> {
  return defineConfig({
    entry,
    format: 'esm',
    target: 'node20',
    dts: { compilerOptions: { stripInternal: true } },
    clean: true,
    sourcemap: true,
    ...options,
    esbuildOptions(esbuild, context) {
      esbuild.sourcesContent = false
      options.esbuildOptions?.(esbuild, context)
    },
  })
}
