/**
 * `npm run build`: dependencies, then all packages, whether they have changed or not. It needs no pnpm of the user's: what is built
 * with is the one that package.json names.
 */
import { main, setUp } from './setup.mjs'

main(async () => {
  await setUp({ guest: false, rebuild: true })
  return 0
})
