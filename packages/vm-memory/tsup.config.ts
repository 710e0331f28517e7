import { library } from '../../tsup.base.ts'

export default library(
  { index: 'src/index.ts', mmap: 'src/mmap.ts', 'on-demand': 'src/on-demand.ts' },
  {
    // Entry points of workers, which are found beside the module that starts them.
    workers: {
      'fault-thread': 'src/on-demand/fault-thread.ts',
      'provider-thread': 'src/on-demand/provider-thread.ts',
    },
  },
)
