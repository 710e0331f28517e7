import { library } from '../../tsup.base.ts'

export default library(
  { index: 'src/index.ts' },
  // Optional dependencies, which tsup would bundle.
  { external: ['lzma-native', /^lzo-wasm/] },
)
