/** For microvm.test.js alone: on the built packages, as somebody who has installed them would run it. */
export default { test: { include: ['*.test.js'], testTimeout: 120_000, hookTimeout: 120_000 } }
