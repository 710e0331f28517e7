/**
 * Interrupt lines: eventfds that KVM turns into edges. An edge that is made before the vCPUs are there, as devices do that were
 * saved with an interrupt pending, would be lost with the APICs that it goes to: it is kept until they can take it.
 */
import type { Interrupt } from '@vmm/devices'
import type { Vm } from '@vmm/kvm-ioctls'
import { EventFd } from '@vmm/sys-util'

/** What the lines are part of. */
export interface InterruptHost {
  readonly vm: Vm
  /** Takes what is to be closed when the VM is. */
  own<T extends { close(): void }>(owner: T): T
}

/** The lines of a VM. */
export class InterruptLines {
  readonly #host: InterruptHost
  /** Those with an edge to be made; undefined when edges are made at once. */
  #kept: Set<EventFd> | undefined = new Set()

  constructor(host: InterruptHost) {
    this.#host = host
  }

  /** @param gsi which pin of the I/O APIC; below 16 the PIC's too */
  line(gsi: number): Interrupt {
    const { vm, own } = this.#host
    const eventFd = own(new EventFd())
    vm.registerIrqfd(eventFd.fd, gsi)
    return {
      trigger: () => {
        if (this.#kept === undefined) eventFd.write()
        else this.#kept.add(eventFd)
      },
    }
  }

  /** The vCPUs are there, with their APICs as they were saved: edges are made from now on. Idempotent. */
  release(): void {
    const kept = this.#kept ?? []
    this.#kept = undefined
    for (const eventFd of kept) eventFd.write()
  }
}
