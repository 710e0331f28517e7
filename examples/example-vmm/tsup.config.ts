import { defineConfig } from 'tsup'

// One CommonJS file, for the sake of start-up time: a third of what came on top of Node.js's own was the linking of ES
// modules. @vmm/linux-loader stays outside, since it loads its decompression libraries from beside itself.
export default defineConfig({
  entry: { index: 'src/main.ts' },
  format: 'cjs',
  target: 'node20',
  noExternal: [/^@vmm\/(?!linux-loader)/, 'commander'],
  external: ['koffi'],
  esbuildOptions(options) {
    options.minifySyntax = true
    options.minifyWhitespace = true
  },
  clean: true,
  sourcemap: true,
})
