import { MappedMemory } from '@vmm/vm-memory/mmap'
import { guestMemoryContract } from './guest-memory.contract.ts'

guestMemoryContract('anonymous mappings', (ranges, options) => MappedMemory.anonymous(ranges, options))
guestMemoryContract('memfd', (ranges, options) => MappedMemory.memfd(ranges, options))
