import { defineConfig } from 'tsup'

export default defineConfig({
  entry: { index: 'src/index.ts', testing: 'src/testing/index.ts' },
  format: 'esm',
  target: 'node20',
  dts: { compilerOptions: { stripInternal: true } },
  clean: true,
  sourcemap: true,
  esbuildOptions(options) {
    // Puts constants where they are used. Otherwise each is a `var` of the module that V8 loads and checks every
    // time: 7.0 instead of 5.1 ns a descriptor (bench/virtio-queue.mjs, Node 20.20).
    options.minifySyntax = true
  },
})
