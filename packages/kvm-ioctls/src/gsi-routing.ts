/**
 * Where global system interrupts go: the argument of KVM_SET_GSI_ROUTING.
 */
import {
  KVM_IRQ_ROUTING_HV_SINT,
  KVM_IRQ_ROUTING_IRQCHIP,
  KVM_IRQ_ROUTING_MSI,
  KVM_IRQ_ROUTING_XEN_EVTCHN,
  KVM_MSI_VALID_DEVID,
} from './constants/flags.ts'
import { checkCount, List } from './list.ts'
import { kvm_irq_routing, kvm_irq_routing_entry } from './structs/vm.ts'

/** The most routes of a VM: `KVM_MAX_IRQ_ROUTES` of include/linux/kvm_host.h. */
export const KVM_MAX_IRQ_ROUTES = 4096

/** A message-signalled interrupt. */
export interface Msi {
  readonly addressLow: number
  /** Default 0; destination bits 31:8 in KVM's X2APIC format. */
  readonly addressHigh?: number
  readonly data: number
  /** The requester, for interrupt controllers that tell devices apart; x86's does not. */
  readonly deviceId?: number
}

/** One route. A GSI may have several, to pins of different controllers. */
export type GsiRoute =
  | { readonly gsi: number; readonly type: 'irqchip'; readonly chip: number; readonly pin: number }
  | ({ readonly gsi: number; readonly type: 'msi' } & Msi)
  | { readonly gsi: number; readonly type: 'hyperv-sint'; readonly vcpu: number; readonly sint: number }
  | {
      readonly gsi: number
      readonly type: 'xen-event-channel'
      readonly port: number
      readonly vcpu: number
      readonly priority: number
    }

/** The kernel's form of a routing table. */
export function encodeGsiRouting(routes: readonly GsiRoute[]): Uint8Array<ArrayBuffer> {
  checkCount('GSI routing', routes.length, KVM_MAX_IRQ_ROUTES)
  const entries = routes.map(encodeRoute)
  return List.of(kvm_irq_routing.size, kvm_irq_routing_entry, entries, 'GSI routing').bytes
}

function encodeRoute(route: GsiRoute): { gsi: number; type: number; flags: number; u: readonly number[] } {
  const { gsi } = route
  switch (route.type) {
    case 'irqchip':
      return { gsi, type: KVM_IRQ_ROUTING_IRQCHIP, flags: 0, u: union(route.chip, route.pin) }
    case 'msi': {
      const { addressLow, addressHigh = 0, data, deviceId } = route
      const flags = deviceId === undefined ? 0 : KVM_MSI_VALID_DEVID
      return { gsi, type: KVM_IRQ_ROUTING_MSI, flags, u: union(addressLow, addressHigh, data, deviceId) }
    }
    case 'hyperv-sint':
      return { gsi, type: KVM_IRQ_ROUTING_HV_SINT, flags: 0, u: union(route.vcpu, route.sint) }
    case 'xen-event-channel': {
      const u = union(route.port, route.vcpu, route.priority)
      return { gsi, type: KVM_IRQ_ROUTING_XEN_EVTCHN, flags: 0, u }
    }
  }
}

/** The eight words of `kvm_irq_routing_entry.u`. */
function union(a: number, b: number, c = 0, d = 0): readonly number[] {
  return [a, b, c, d, 0, 0, 0, 0]
}
