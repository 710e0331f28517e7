/** The completer: from a vCPU that stopped at an instruction to one that has executed it. */

import { DR6_BS, FLAG_RF, FLAG_TF } from './architecture.ts'
import { CodeBytes } from './code-bytes.ts'
import type { Completion } from './completion.ts'
import type { CpuContext } from './context.ts'
import { Decoder } from './decode.ts'
import { NO_VECTOR } from './faults.ts'
import type { CpuFeatures } from './features.ts'
import { type Encoding, Instruction } from './instruction.ts'
import { encodings } from './instructions/index.ts'
import { Machine } from './machine.ts'
import { describeMode } from './mode.ts'
import { EncodingTable } from './table.ts'
import { VECTOR_DB } from './vectors.ts'

const table = /* @__PURE__ */ new EncodingTable(encodings)
const NO_BYTES = new Uint8Array(0)

/**
 * Completes instructions for one vCPU. It keeps buffers, no state: one completer may serve a vCPU for its whole life.
 *
 * @example
 * const completer = new InstructionCompleter(context, featuresFromCpuid(cpuid.entries))
 * const result = completer.complete(exit.instructionBytes)
 */
export class InstructionCompleter {
  readonly #machine: Machine
  readonly #code: CodeBytes
  readonly #decoder: Decoder
  readonly #instruction = new Instruction()

  constructor(context: CpuContext, features: CpuFeatures) {
    this.#machine = new Machine(context, features)
    this.#code = new CodeBytes((bytes, length) => this.#machine.fetchCode(bytes, length))
    this.#decoder = new Decoder(this.#code, table)
  }

  /**
   * Executes the instruction at RIP. `bytes` are its first ones as far as KVM's exit carries them, or none; the rest is
   * fetched from guest memory. What the guest does never makes this throw; what the context throws passes through.
   */
  complete(bytes: Uint8Array = NO_BYTES): Completion {
    const machine = this.#machine
    const instruction = this.#instruction
    machine.start()
    this.#code.start(bytes)
    const encoding = this.#decoder.decode(instruction, machine.codeBits)
    if (encoding !== undefined) {
      this.#execute(encoding)
      if (machine.faults.areNone) return this.#retire(encoding)
    } else if (this.#code.isTooLong) machine.generalProtection()
    else if (this.#decoder.isInvalid) machine.invalidOpcode()
    else machine.faults.giveUp('instruction')
    return this.#refuse(encoding)
  }

  #execute(encoding: Encoding): void {
    const machine = this.#machine
    const instruction = this.#instruction
    const isLockWrong = instruction.hasLock && !(encoding.lockable === true && instruction.isMemory)
    const hasStrayOperand = encoding.vvvv === 'unused' && instruction.hasVexRegister
    // VEX came after real mode and virtual-8086 mode, which do not know it (SDM vol. 2, 2.3.1).
    const isOldMode = machine.mode === 'real' || machine.mode === 'virtual-8086'
    const isModeWrong =
      (encoding.longModeOnly === true && machine.codeBits !== 64) || (encoding.vex === true && isOldMode)
    if (isLockWrong || hasStrayOperand || isModeWrong || this.#decoder.isInvalid) machine.invalidOpcode()
    else encoding.execute(machine, instruction)
  }

  #retire(encoding: Encoding): Completion {
    const { registers, faults, codeBits } = this.#machine
    const isSingleStep = (registers.flags & FLAG_TF) !== 0
    registers.rip = BigInt.asUintN(codeBits, registers.rip + BigInt(this.#instruction.length))
    registers.setFlags(FLAG_RF, 0)
    this.#machine.finish()
    const { mnemonic } = encoding
    if (faults.trap !== NO_VECTOR) return exception(mnemonic, faults.trap, undefined, undefined, undefined)
    if (isSingleStep) return exception(mnemonic, VECTOR_DB, undefined, undefined, DR6_BS)
    return { kind: 'completed', mnemonic }
  }

  #refuse(encoding: Encoding | undefined): Completion {
    const { faults, mode, special, registers } = this.#machine
    if (faults.unknown !== undefined) {
      return {
        kind: 'unknown',
        reason: faults.unknown,
        bytes: this.#code.snapshot(),
        rip: registers.rip,
        mode: describeMode(special, { rflags: BigInt(registers.flags >>> 0) }),
      }
    }
    const errorCode = mode === 'real' ? undefined : faults.errorCode
    return exception(encoding?.mnemonic, faults.vector, errorCode, faults.cr2, undefined)
  }
}

function exception(
  mnemonic: string | undefined,
  vector: number,
  errorCode: number | undefined,
  cr2: bigint | undefined,
  dr6: bigint | undefined,
): Completion {
  return { kind: 'exception', mnemonic, vector, errorCode, cr2, dr6 }
}
