import type { Logger } from '../../shared/service/logger.ts'

/** Whether Kafka answers, as of the last look, and if not, why. Changes are logged. */
export class KafkaHealth {
  /** Of the last call; undefined when it was answered. */
  #error: string | undefined = NOT_YET
  /** Why a broker is unreachable, which says more than the error of a call; as of the last time that it was known. */
  #named: string | undefined
  #logged: string | undefined

  /** @param unreachable why a broker is, if that is known now, which may be while a call still waits */
  constructor(
    readonly unreachable: () => string | undefined,
    readonly brokers: string,
    readonly log: Logger,
  ) {}

  answered(): void {
    const before = this.#error
    this.#error = this.#named = this.#logged = undefined
    if (before !== undefined) this.log.info({ kafkaClient: CLIENT, brokers: this.brokers }, 'connected to Kafka')
  }

  /** @param error of a call, for when no broker is known to be unreachable */
  failed(error: string): void {
    this.#error = error
    const reason = this.#reason()
    if (reason === this.#logged) return
    this.#logged = reason
    this.log.warn({ kafkaClient: CLIENT, brokers: this.brokers, reason }, 'Kafka is unreachable')
  }

  /** Why Kafka cannot be read. */
  fault(): string | undefined {
    const reason = this.#reason()
    return reason === undefined || reason === NOT_YET ? reason : `Kafka cannot be read: ${reason}`
  }

  #reason(): string | undefined {
    if (this.#error === undefined) return undefined
    this.#named = this.unreachable() ?? this.#named
    return this.#named ?? this.#error
  }
}

const NOT_YET = 'Kafka has not been reached yet'
const CLIENT = 'console'
