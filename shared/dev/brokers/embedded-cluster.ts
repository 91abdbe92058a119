/**
 * The process that holds librdkafka's mock cluster: prints its address, then stays until it is ended. Apart from `native`, it must not
 * share anything with the services: the mock takes memory and a thread that would be counted as theirs.
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
