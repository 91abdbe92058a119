/**
 * The process that runs librdkafka's mock cluster: prints its address and stays until it is stopped. Apart from `native`, it must not
 * share anything with the services: the mock's memory and thread would be counted as theirs.
 */
import { native } from '../../kafka/client.ts'

const connectTimeoutMs = 10_000

const { Producer } = native()
const cluster = new Producer({ 'test.mock.num.brokers': 1, log_level: 3 })
cluster.connect({ timeout: connectTimeoutMs }, (error, metadata) => {
  const broker = metadata?.brokers[0]
  if (error || broker === undefined) {
    console.error(`the mock cluster did not start: ${error?.message ?? 'it names no broker'}`)
    process.exit(1)
  }
  console.log(`${broker.host}:${broker.port}`)
})
