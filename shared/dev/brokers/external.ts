import { type Broker, BrokerUnavailableError } from './broker.ts'
import { createTopicsAndWait, fetchMetadata } from './wire.ts'

const answerTimeoutMs = 5_000

/**
 * An existing broker, without TLS or credentials. Throws BrokerUnavailableError when none of the addresses answers.
 */
export async function connectExternal(bootstrapServers: string): Promise<Broker> {
  const addresses = bootstrapServers.split(',')
  const answers = await Promise.allSettled(
    addresses.map(async (address) => ({ address, metadata: await fetchMetadata(address, answerTimeoutMs) })),
  )
  const answer = answers.find((outcome) => outcome.status === 'fulfilled')?.value
  if (answer === undefined) {
    const why = answers.map((outcome) => (outcome.status === 'rejected' ? String(outcome.reason) : '')).join('; ')
    throw new BrokerUnavailableError(`no broker at ${bootstrapServers}: ${why}`)
  }
  return {
    name: 'external',
    bootstrapServers,
    description: `the broker at ${bootstrapServers}, nodes: ${answer.metadata.brokers.length}`,
    createTopics: (names, partitions) => createTopicsAndWait(answer.address, names, partitions),
    async stop() {},
  }
}

const lookMs = 1_000
/** A broker counts as gone after this many failed checks in a row. */
const unansweredLooks = 3

/** Waits until the broker is gone. @returns the error of the last check */
export async function seenGone(bootstrapServers: string): Promise<string> {
  let why = ''
  for (let unanswered = 0; unanswered < unansweredLooks; ) {
    await Bun.sleep(lookMs)
    try {
      await connectExternal(bootstrapServers)
      unanswered = 0
    } catch (error) {
      why = (error as Error).message
      unanswered++
    }
  }
  return why
}
