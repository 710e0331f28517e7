/**
 * Guest memory whose pages come when they are first touched, from a module of yours: userfaultfd(2). Needs `@vmm/sys-util`.
 *
 * A page that is missing stops whoever touches it: a vCPU, a system call, and device code on the main thread. So pages are
 * not served there. One thread reads the faults and puts pages in their places; it never runs code of yours, so that it
 * always answers. A second one runs your module, which may take its time, throw, or die.
 * @packageDocumentation
 */
export type { OnDemandMemory, OnDemandOptions } from './on-demand/memory.ts'
export { PageServer, type PageServerOptions } from './on-demand/page-server.ts'
export type { OpenPageProvider, PageProvider } from './on-demand/provider.ts'
