import { native, promised } from '../kafka/client.ts'

/** Longer than any run that needs one. */
const TRANSACTION_TIMEOUT_MS = 600_000
const STEP_TIMEOUT_MS = 10_000

/**
 * Another client's transaction with one record, left open: committed records behind it cannot be read until it is aborted.
 * @param brokers `host:port`, comma-separated
 */
export async function openTransaction(
  brokers: string,
  topic: string,
  partition: number,
): Promise<{ abort(): Promise<void> }> {
  const client = new (native().Producer)({
    'metadata.broker.list': brokers,
    'transactional.id': `open-${crypto.randomUUID()}`,
    'transaction.timeout.ms': TRANSACTION_TIMEOUT_MS,
  })
  await promised((done) => client.connect({ timeout: STEP_TIMEOUT_MS }, (error) => done(error)))
  await promised((done) => client.initTransactions(STEP_TIMEOUT_MS, done))
  await promised((done) => client.beginTransaction(done))
  client.produce(topic, partition, Buffer.from('never committed'))
  await promised((done) => client.flush(STEP_TIMEOUT_MS, (error) => done(error)))
  return {
    async abort() {
      await promised((done) => client.abortTransaction(STEP_TIMEOUT_MS, done))
      await promised((done) => client.disconnect(0, (error) => done(error)))
    },
  }
}
