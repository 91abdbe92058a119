import { TypeCompiler } from '@sinclair/typebox/compiler'
import { boundedText } from '../../shared/http/bounded-text.ts'
import { ConsumerStatusz } from '../statusz.ts'

/** What consumers say of themselves: whether they are ready, and how each of their partitions is. */

/** How long a consumer may take to answer, and how long its answer may be. */
const ANSWER_TIMEOUT_MS = 1_000
const MAX_ANSWER_BYTES = 4 * 2 ** 20

/** The most consumers that are asked. */
const MAX_ASKED = 100

/** How long answers are kept: of several streams, each asks. */
const KEPT_MS = 1_000

const check = TypeCompiler.Compile(ConsumerStatusz)

export class Consumers {
  #last: { atMs: number; hosts: string; answers: Promise<ReadonlyMap<string, ConsumerStatusz>> } | undefined

  /** @param port their operations port @param tls whether it speaks TLS, as this console's does */
  constructor(
    readonly port: number,
    readonly tls: 'on' | 'off',
    readonly signal: AbortSignal,
    readonly ask: (url: string, init: BunFetchRequestInit) => Promise<Response> = fetch,
  ) {}

  /** By client id; without those that do not answer in time, and whose hosts are not as Kafka sees them. */
  statuses(hosts: readonly string[]): Promise<ReadonlyMap<string, ConsumerStatusz>> {
    const distinct = [...new Set(hosts)].slice(0, MAX_ASKED)
    const name = distinct.toSorted().join()
    const nowMs = performance.now()
    if (this.#last === undefined || this.#last.hosts !== name || nowMs - this.#last.atMs > KEPT_MS)
      this.#last = { atMs: nowMs, hosts: name, answers: this.#askAll(distinct) }
    return this.#last.answers
  }

  async #askAll(hosts: readonly string[]): Promise<ReadonlyMap<string, ConsumerStatusz>> {
    const answers = await Promise.all(hosts.map((host) => this.#statusOf(host)))
    return new Map(answers.flatMap((answer) => (answer === undefined ? [] : [[answer.clientId, answer] as const])))
  }

  async #statusOf(host: string): Promise<ConsumerStatusz | undefined> {
    const authority = `${host.includes(':') ? `[${host}]` : host}:${this.port}`
    try {
      const response = await this.ask(`${this.tls === 'on' ? 'https' : 'http'}://${authority}/statusz`, {
        redirect: 'error',
        // Kafka names a host by its address, which no certificate has. Its authority is verified as ever.
        tls: { checkServerIdentity: () => undefined },
        signal: AbortSignal.any([this.signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]),
      })
      const answer: unknown = response.ok ? JSON.parse(await boundedText(response, MAX_ANSWER_BYTES)) : undefined
      return check.Check(answer) ? answer : undefined
    } catch {
      // It is not there, or it is not reached from here.
      return undefined
    }
  }
}
