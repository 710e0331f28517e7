/**
 * The network device: virtio 1.2 section 5.1, over any `Network`. Several pairs of queues, merged receive buffers, partial
 * checksums, TCP segmentation, link state, announcements, an address of the driver's own choice. Not here: filters (the guest
 * gets what the network gives it), UDP fragmentation, hashes and RSS, coalescing of notifications.
 */
import type { DescriptorChain, Virtqueue } from '@vmm/virtio-queue'
import { attachOnce } from '../attached.ts'
import type { VirtioDevice, VirtioFault, VirtioTransport } from '../device.ts'
import type { ChainHandler } from '../queue-runner.ts'
import { QueueRunner } from '../queue-runner.ts'
import { limiterOf, type RateLane, type RateLimiter } from '../rate-limiter.ts'
import { featureBit, VIRTIO_ID_NET } from '../spec.ts'
import type { NetOptions, NetSettings } from './config.ts'
import {
  acceptsNetFeatures,
  GUEST_OFFLOAD_FEATURES,
  guestOffloads,
  netFeatures,
  netSettings,
} from './config.ts'
import { ControlQueue } from './control.ts'
import { type MutableNetCounters, type NetCounters, newNetCounters } from './counters.ts'
import { isDeviceMac } from './mac.ts'
import type { Network } from './network.ts'
import { NetReceiver } from './receiver.ts'
import * as spec from './spec.ts'
import { checkNetState, type NetState } from './state.ts'
import { Transmitter } from './transmitter.ts'

/** The most frames to take in one turn of the event loop, for each queue. */
const BATCH = 128
const CONTROL_QUEUE_SIZE = 64

const MQ_BIT = featureBit(spec.VIRTIO_NET_F_MQ)
const MTU_BIT = featureBit(spec.VIRTIO_NET_F_MTU)
const STATUS_BIT = featureBit(spec.VIRTIO_NET_F_STATUS)
const ANNOUNCE_BIT = featureBit(spec.VIRTIO_NET_F_GUEST_ANNOUNCE)

const NO_ANSWER: VirtioFault = Object.freeze({
  code: 'ERR_NET_NO_ANSWER',
  needsReset: false,
  message: 'a control command is not in guest memory, or has no byte for the answer (5.1.6.5)',
})

/**
 * virtio-net.
 *
 * @example
 * ```ts
 * const network = new UserNetwork({ receive: (frame) => console.log('the guest sent', frame.length) })
 * const transport = new MmioTransport({ device: new Net({ network, mac: '02:00:00:00:00:01' }), memory, interrupt })
 * network.send(frame)
 * ```
 */
export class Net implements VirtioDevice {
  readonly type: number = VIRTIO_ID_NET
  readonly featuresLow: number
  readonly featuresHigh = 0
  readonly queueSizes: readonly number[]
  readonly config: Uint8Array = new Uint8Array(spec.VIRTIO_NET_CONFIG_SIZE)
  /** What limits frames to the guest; change it with its `update`. */
  readonly rxRateLimiter: RateLimiter
  /** What limits frames of the guest. */
  readonly txRateLimiter: RateLimiter
  readonly #network: Network
  readonly #settings: NetSettings
  readonly #owns: { readonly rx: boolean; readonly tx: boolean }
  readonly #counters: MutableNetCounters = newNetCounters()
  readonly #view = new DataView(this.config.buffer)
  readonly #rules = { features: 0, frameBytesMax: spec.FRAME_BYTES_MAX, isLinkUp: true }
  readonly #control: ControlQueue
  /** Pairs of queues in use. */
  #pairs = 1
  /** What the driver has chosen by command, `VIRTIO_NET_F_GUEST_*`. */
  #guestOffloads: number | null = null
  #linkWanted: boolean
  #linkOfNetwork = true
  #announce = false
  /** The guest was restored: others may not know yet where it is. */
  #isRestored = false
  #transport: VirtioTransport | undefined
  #receivers: NetReceiver[] = []
  #transmitters: Transmitter[] = []
  #runners: QueueRunner[] = []
  /** Of the control queue, which is the third where several pairs are not negotiated, and the last where they are. */
  #controlRunners: readonly [one: QueueRunner, several: QueueRunner] | undefined

  /** @throws DevicesError ERR_DEVICE_OPTION */
  constructor(options: NetOptions) {
    const settings = netSettings(options)
    const { queuePairs, queueSize, mtu } = settings
    this.#network = options.network
    this.#settings = settings
    this.#linkWanted = options.linkUp ?? true
    this.rxRateLimiter = limiterOf(options.rxRateLimit)
    this.txRateLimiter = limiterOf(options.txRateLimit)
    this.#owns = {
      rx: this.rxRateLimiter !== options.rxRateLimit,
      tx: this.txRateLimiter !== options.txRateLimit,
    }
    this.featuresLow = netFeatures(settings)
    this.queueSizes = [...Array.from({ length: 2 * queuePairs }, () => queueSize), CONTROL_QUEUE_SIZE]
    this.#control = new ControlQueue({
      setMac: (mac) => this.#setMac(mac),
      acknowledgeAnnouncement: () => this.#acknowledge(),
      setQueuePairs: (count) => this.#setQueuePairs(count),
      setGuestOffloads: (features) => this.#setGuestOffloads(features),
    })
    this.config.set(settings.mac, spec.CONFIG_MAC_OFFSET)
    this.#view.setUint16(spec.CONFIG_MAX_VIRTQUEUE_PAIRS_OFFSET, queuePairs, true)
    this.#view.setUint16(spec.CONFIG_MTU_OFFSET, mtu ?? 0, true)
    this.#writeStatus()
  }

  /** The guest's address, which it may have chosen: six bytes, a copy. */
  get mac(): Uint8Array {
    return this.config.slice(spec.CONFIG_MAC_OFFSET, spec.CONFIG_MAC_OFFSET + spec.MAC_SIZE)
  }

  /** Whether frames pass: the host wants the link up, and the network has one. */
  get linkUp(): boolean {
    return this.#linkWanted && this.#linkOfNetwork
  }

  /** What passed and what did not. */
  get counters(): NetCounters {
    return this.#counters
  }

  attach(transport: VirtioTransport): void {
    const { queuePairs } = this.#settings
    const network = this.#network
    const counters = this.#counters
    this.#transport = attachOnce(this.#transport, transport, 'virtio-net')
    const isUp = (pair: number): boolean => pair < this.#pairs && this.linkUp
    for (let pair = 0; pair < queuePairs; pair += 1) {
      const refill = (): void => this.#refill(pair)
      const resume = (): void => this.#runners[pair]?.run()
      const rxLane: RateLane = this.rxRateLimiter.lane(refill)
      const lane = this.txRateLimiter.lane(resume)
      this.#receivers.push(new NetReceiver({ transport, pair, counters, isUp, lane: rxLane }))
      const transmitter = new Transmitter({ transport, pair, network, counters, rules: this.#rules, lane })
      this.#transmitters.push(transmitter)
      this.#runners.push(new QueueRunner(transport, 2 * pair + 1, transmitter, BATCH))
    }
    const control: ChainHandler = {
      serve: (chain, queue, runner, isMapped) => this.#serveControl(chain, queue, runner, isMapped),
    }
    this.#controlRunners = [
      new QueueRunner(transport, 2, control, CONTROL_QUEUE_SIZE),
      new QueueRunner(transport, 2 * queuePairs, control, CONTROL_QUEUE_SIZE),
    ]
    network.attach({
      receivers: this.#receivers,
      resume: (pair) => this.#runners[pair]?.run(),
      dropped: (frames, bytes) => {
        counters.txFrames -= frames
        counters.txBytes -= bytes
        counters.txDropped += frames
      },
      linkChanged: (isUp) => this.#changeLink(this.#linkWanted, isUp),
      failure: (error) => transport.hostFailure(error),
    })
  }

  acceptsFeatures(low: number): boolean {
    return acceptsNetFeatures(low)
  }

  activate(): void {
    const features = this.#features
    this.#rules.features = features
    const { mtu } = this.#settings
    const isBound = mtu !== undefined && (features & MTU_BIT) !== 0
    this.#rules.frameBytesMax = isBound
      ? mtu + spec.ETHERNET_HEADER_SIZE + spec.VLAN_TAGS_SIZE
      : spec.FRAME_BYTES_MAX
    this.#configure()
    if (this.#isRestored) this.announce()
    this.#isRestored = false
  }

  notify(queue: number): void {
    if (queue === this.#controlIndex) {
      this.#controlRunners?.[this.#hasPairs ? 1 : 0].run()
      return
    }
    const pair = queue >>> 1
    if (pair >= this.#pairs) return
    if ((queue & 1) === 1) this.#runners[pair]?.run()
    else if (this.#receivers[pair]?.notify()) this.#refill(pair)
  }

  resetQueue(queue: number): void {
    if ((queue & 1) === 1) this.#transmitters[queue >>> 1]?.reset()
    else this.#receivers[queue >>> 1]?.reset()
  }

  reset(): void {
    for (const receiver of this.#receivers) receiver.reset()
    for (const transmitter of this.#transmitters) transmitter.reset()
    this.#network.configure?.(0, 0)
    this.#pairs = 1
    this.#guestOffloads = null
    this.#announce = false
    this.config.set(this.#settings.mac, spec.CONFIG_MAC_OFFSET)
    this.#writeStatus()
  }

  /** Takes the link down or up, for the guest as if somebody pulled the cable. */
  setLink(isUp: boolean): void {
    this.#changeLink(isUp, this.#linkOfNetwork)
  }

  /**
   * Asks the guest to announce itself to the network (gratuitous ARP), as is right when it has come somewhere else.
   * Nothing happens where it does not know of such a thing.
   */
  announce(): void {
    if ((this.#features & ANNOUNCE_BIT) === 0 || (this.#features & STATUS_BIT) === 0) return
    this.#announce = true
    this.#writeStatus()
    this.#transport?.configChanged()
  }

  state(): NetState {
    return {
      version: 1,
      mac: [...this.mac],
      linkUp: this.#linkWanted,
      announce: this.#announce,
      queuePairs: this.#pairs,
      guestOffloads: this.#guestOffloads,
      rxRateLimit: this.#owns.rx ? this.rxRateLimiter.state() : null,
      txRateLimit: this.#owns.tx ? this.txRateLimiter.state() : null,
    }
  }

  /** @throws DevicesError ERR_DEVICE_STATE */
  restore(state: unknown): void {
    const saved = checkNetState(state, this.#settings.queuePairs)
    if (saved.rxRateLimit !== null && this.#owns.rx) this.rxRateLimiter.restore(saved.rxRateLimit)
    if (saved.txRateLimit !== null && this.#owns.tx) this.txRateLimiter.restore(saved.txRateLimit)
    this.#pairs = saved.queuePairs
    this.#guestOffloads = saved.guestOffloads
    this.#announce = saved.announce
    this.#isRestored = true
    this.#linkWanted = saved.linkUp
    this.config.set(saved.mac, spec.CONFIG_MAC_OFFSET)
    this.#writeStatus()
  }

  /** Negotiated, 0 to 31. */
  get #features(): number {
    return this.#transport?.featuresLow ?? 0
  }

  get #hasPairs(): boolean {
    return (this.#features & MQ_BIT) !== 0
  }

  get #controlIndex(): number {
    return this.#hasPairs ? 2 * this.#settings.queuePairs : 2
  }

  #configure(): void {
    const offloads = guestOffloads(this.#guestOffloads ?? this.#features)
    this.#network.configure?.(offloads, this.#pairs)
  }

  #refill(pair: number): void {
    if (this.#receivers[pair]?.receives()) this.#network.refill?.(pair)
  }

  #changeLink(isWanted: boolean, hasNetwork: boolean): void {
    const was = this.linkUp
    this.#linkWanted = isWanted
    this.#linkOfNetwork = hasNetwork
    const isUp = this.linkUp
    if (isUp === was) return
    this.#writeStatus()
    this.#transport?.configChanged()
    for (let pair = 0; isUp && pair < this.#pairs; pair += 1) this.#refill(pair)
  }

  #writeStatus(): void {
    this.#rules.isLinkUp = this.linkUp
    const status =
      (this.linkUp ? spec.VIRTIO_NET_S_LINK_UP : 0) | (this.#announce ? spec.VIRTIO_NET_S_ANNOUNCE : 0)
    this.#view.setUint16(spec.CONFIG_STATUS_OFFSET, status, true)
  }

  #serveControl(chain: DescriptorChain, _queue: Virtqueue, runner: QueueRunner, isMapped: boolean): number {
    const transport = this.#transport as VirtioTransport
    if (isMapped && chain.writableBytes > 0) return this.#control.serve(chain)
    if (isMapped) transport.fault(NO_ANSWER, runner.index)
    return 0
  }

  #setMac(mac: Uint8Array): boolean {
    if (!isDeviceMac(mac)) return false
    this.config.set(mac, spec.CONFIG_MAC_OFFSET)
    this.#transport?.configChanged()
    return true
  }

  #acknowledge(): boolean {
    this.#announce = false
    this.#writeStatus()
    this.#transport?.configChanged()
    return true
  }

  #setQueuePairs(count: number): boolean {
    if (!this.#hasPairs || count < 1 || count > this.#settings.queuePairs) return false
    this.#pairs = count
    this.#configure()
    for (let pair = 0; pair < count; pair += 1) {
      this.#refill(pair)
      this.#runners[pair]?.run()
    }
    return true
  }

  #setGuestOffloads(features: number): boolean {
    const allowed = this.#features & GUEST_OFFLOAD_FEATURES
    if (features > 0xffff_ffff || (features & ~allowed) !== 0 || !acceptsNetFeatures(features)) return false
    this.#guestOffloads = features
    this.#configure()
    return true
  }
}
