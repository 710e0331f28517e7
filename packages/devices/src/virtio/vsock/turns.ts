/**
 * When the streams are told what the guest did, and when what they write in turn is sent: in a tick of its own, after what is
 * under way; in a later turn of the event loop where that goes on and on. So all code of the user's runs apart from the guest's
 * packets, an exception in it holds up nobody else, and one notification of the guest serves many streams.
 */
import type { Connection } from './connection.ts'
import { ReadyQueue } from './ready-queue.ts'

/** How often telling and sending may follow upon each other in one turn of the event loop. */
const ROUNDS = 4

/** What the turns are for. */
export interface TurnsOptions {
  /** Sends what there is to be sent. */
  readonly transmit: () => void
  /** Calls back in a later turn of the event loop. */
  readonly defer: (callback: () => void) => void
}

export class Turns {
  readonly #options: TurnsOptions
  readonly #woken = new ReadyQueue<Connection>()
  readonly #turn: () => void = () => this.#run()
  #isDue = false
  #isRunning = false
  #isTelling = false

  constructor(options: TurnsOptions) {
    this.#options = options
  }

  /** A connection's stream is to be told something. */
  wake(connection: Connection): void {
    if (connection.inWoken) return
    connection.inWoken = true
    this.#woken.push(connection)
    this.soon()
  }

  /** There is something to be sent. */
  soon(): void {
    // While the streams are told, what they cause is looked at right after that.
    if (this.#isDue || this.#isTelling) return
    this.#isDue = true
    if (!this.#isRunning) process.nextTick(this.#turn)
  }

  #run(): void {
    this.#isRunning = true
    try {
      // What was sent makes room for more.
      for (let round = 0; round < ROUNDS && this.#isDue; round += 1) {
        this.#isDue = false
        this.#tell()
      }
    } finally {
      this.#isRunning = false
      if (this.#isDue) this.#options.defer(this.#turn)
    }
  }

  /** Tells the streams that were woken; what they write meanwhile is sent after that. */
  #tell(): void {
    this.#isTelling = true
    try {
      for (let left = this.#woken.length; left > 0; left -= 1) {
        const connection = this.#woken.shift() as Connection
        connection.inWoken = false
        connection.settle()
      }
    } finally {
      this.#isTelling = false
      // Those woken by others, and all that are left where the user's code has thrown.
      if (this.#woken.length > 0) this.#isDue = true
      this.#options.transmit()
    }
  }
}
