// The Linux of guest/ in this process, its console a shell that is spoken to by program: what those examples share that want
// a guest.
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { connectInput } from '@vmm/devices'
import { MicroVm } from '@vmm/microvm'
import { commandLine } from '../../guest/cmdline.mjs'

const MIB = 2 ** 20

/** A file of the test guest, which `npm start` and `npm test` build. */
const guestFile = (/** @type {string} */ name) =>
  fileURLToPath(new URL(`../../.cache/guest/${name}`, import.meta.url))

/** A VM that runs a shell. */
export class Linux {
  #input = new PassThrough()
  #printed = ''
  #look = () => {}

  /** Boots a new VM. @param {readonly import('@vmm/microvm').AttachDevice[]} [devices] */
  static boot(devices = []) {
    return Linux.start((output) =>
      MicroVm.create({
        kernel: guestFile('vmlinux'),
        initrd: guestFile('programs.cpio'),
        cmdline: commandLine(),
        memory: 64 * MIB,
        devices,
        output,
      }),
    )
  }

  /** Runs a VM that is made with the given output. @param {(output: PassThrough) => Promise<MicroVm>} make */
  static async start(make) {
    const output = new PassThrough()
    return new Linux(await make(output), output)
  }

  /** @private @param {MicroVm} vm @param {PassThrough} output */
  constructor(vm, output) {
    output.on('data', (chunk) => {
      this.#printed += chunk.toString('latin1').replaceAll('\r', '')
      this.#look()
    })
    this.vm = vm
    this.input = connectInput(this.#input, vm.serial)
    this.ended = vm.run()
  }

  /** Types a command, and resolves to what it printed. @param {string} command @returns {Promise<string>} */
  run(command) {
    // What is typed appears on the console, too: the quotes tell it from what is printed.
    this.#input.write(`echo "be""gin"; ${command}; echo "en""d"\n`)
    return new Promise((resolve, reject) => {
      this.#look = () => {
        const [all, printed] = /^begin\n(.*?)^end\n/ms.exec(this.#printed) ?? []
        if (all === undefined) return
        this.#printed = ''
        resolve(printed ?? '')
      }
      this.ended.then(({ reason }) => reject(new Error(reason)))
    })
  }

  /** Ends the VM. */
  async close() {
    this.vm.stop('not needed any more')
    await this.ended
    this.input.close()
    this.vm.close()
  }
}
