import type { TopicAdmin } from '../shared/kafka/types.ts'
import type { Logger } from '../shared/service/logger.ts'
import { CONNECT_BACKOFF, delayMs, sleep } from '../shared/service/retry.ts'

/** Creates the topics of streams, in the background, with retries until all exist. A fault of one stream does not hold up others. */

/** The most faults that are logged. */
const LOGGED_FAULTS = 5

/** What brokers answer to whoever has no right to create a topic. */
const NOT_ALLOWED = /authorization failed/i
const NEEDS_ACL =
  'it takes an ACL that allows CREATE on kt. (kafka-acls producer --create-topics), or CREATE_TOPICS=off'

export interface TopicMakerDeps {
  /** Makes a client; it is closed once all topics exist. */
  openAdmin(): Pick<TopicAdmin, 'ensureGroups' | 'close'>
  options: Parameters<TopicAdmin['ensureGroups']>[1]
  log: Pick<Logger, 'warn' | 'debug'>
  ending: AbortSignal
}

export class TopicMaker {
  readonly #deps: TopicMakerDeps
  /** The topics of each stream, by the stream's own. */
  #wanted: ReadonlyMap<string, readonly string[]> = new Map()
  /** Streams whose topics all exist. */
  readonly #made = new Set<string>()
  #isMaking = false
  /** Ends the wait for the next attempt. */
  #waiting = new AbortController()
  /** Why not all topics could be created. */
  fault: string | undefined

  constructor(deps: TopicMakerDeps) {
    this.#deps = deps
  }

  /** These are the streams from now on. @param streams the topics of each, its own first */
  want(streams: readonly (readonly [string, ...string[]])[]): void {
    this.#wanted = new Map(streams.map((topics) => [topics[0], topics]))
    for (const stream of this.#made) if (!this.#wanted.has(stream)) this.#made.delete(stream)
    this.#waiting.abort()
    if (!this.#isMaking) void this.#make()
  }

  get #left(): [string, readonly string[]][] {
    return [...this.#wanted].filter(([stream]) => !this.#made.has(stream))
  }

  async #make(): Promise<void> {
    const { openAdmin, ending } = this.#deps
    if (this.#left.length === 0) return
    this.#isMaking = true
    const admin = openAdmin()
    for (let attempt = 1; !ending.aborted; attempt++) {
      this.#waiting = new AbortController()
      await this.#tryAll(admin)
      if (this.#left.length === 0) break
      await sleep(delayMs(CONNECT_BACKOFF, attempt), AbortSignal.any([ending, this.#waiting.signal]))
      if (this.#waiting.signal.aborted) attempt = 0
    }
    await admin.close()
    this.#isMaking = false
    if (!ending.aborted) void this.#make()
  }

  async #tryAll(admin: Pick<TopicAdmin, 'ensureGroups'>): Promise<void> {
    const { options, log } = this.#deps
    const left = this.#left
    let fault: string | undefined
    try {
      const faults = await admin.ensureGroups(
        left.map(([, topics]) => topics),
        options,
      )
      left.forEach(([stream], index) => {
        if (faults[index] === undefined && this.#wanted.has(stream)) this.#made.add(stream)
      })
      const found = left.flatMap(([stream], index) => {
        const one = faults[index]
        if (one === undefined) return []
        return NOT_ALLOWED.test(one) ? `${stream}: ${NEEDS_ACL}` : one
      })
      fault = found.length === 0 ? undefined : found.slice(0, LOGGED_FAULTS).join('; ')
    } catch (error) {
      fault = (error as Error).message
    }
    if (fault !== undefined)
      log[fault === this.fault ? 'debug' : 'warn'](
        { count: this.#left.length, reason: fault },
        'some topics are missing',
      )
    this.fault = fault
  }
}
