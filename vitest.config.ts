import { defineConfig } from 'vitest/config'

// Tests run on the sources: every package's "@vmm/source" export condition names its src/index.ts.
const conditions = ['@vmm/source', 'node', 'import', 'module', 'default']

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    // Slow tests take the better part of an hour: `npm run test:slow` alone runs them.
    exclude: process.env['VMM_SLOW'] ? [] : ['tests/slow/**'],
    include: ['packages/*/test/**/*.test.ts', 'examples/*/test/**/*.test.ts', 'tests/**/*.test.ts'],
    setupFiles: ['tests/support/property-tests.ts'],
    // Interpreted guests make single tests slow; a hang still ends.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    maxWorkers: 2,
  },
})
