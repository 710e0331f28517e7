/**
 * How each package is built: ES modules for the oldest Node.js supported, bundled declarations, source maps that name
 * the sources beside them rather than repeating them.
 */
import { defineConfig, type Options } from 'tsup'

/** Source files by the names that they have in dist, less extension. */
type Modules = Record<string, string>

/** What a package may want besides. */
interface LibraryOptions extends Pick<Options, 'esbuildOptions' | 'external'> {
  /** Modules that nobody imports: what runs in workers. They get no declarations. */
  workers?: Modules
}

/** The tsup configuration of a package with these entries. */
export function library(entry: Modules, options: LibraryOptions = {}): ReturnType<typeof defineConfig> {
  const { workers, esbuildOptions, ...others } = options
  return defineConfig({
    entry: { ...entry, ...workers },
    format: 'esm',
    target: 'node20',
    dts: { entry, compilerOptions: { stripInternal: true } },
    clean: true,
    sourcemap: true,
    ...others,
    esbuildOptions(esbuild, context) {
      esbuild.sourcesContent = false
      esbuildOptions?.(esbuild, context)
    },
  })
}
