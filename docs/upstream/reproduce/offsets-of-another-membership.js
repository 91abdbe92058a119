// Offsets that were read in one membership are sent in the next one, and are taken: `node offsets-of-another-membership.js HOST:PORT`, with a topic named "topic".
const { KafkaConsumer, Producer } = require('@confluentinc/kafka-javascript')

const brokers = { 'bootstrap.servers': process.argv[2] }
const group = `group-${Date.now()}`
const called = (call) => new Promise((resolve, reject) => call((error, value) => (error ? reject(error) : resolve(value))))

async function join() {
  const consumer = new KafkaConsumer({
    ...brokers,
    'group.id': group,
    'enable.auto.commit': false,
    'partition.assignment.strategy': 'cooperative-sticky',
    'heartbeat.interval.ms': 500,
    'session.timeout.ms': 6_000,
  })
  await called((done) => consumer.connect({}, done))
  // Calls that wait would take all threads of the pool.
  consumer.setDefaultConsumeTimeout(1)
  consumer.subscribe(['topic'])
  const polling = setInterval(() => consumer.isConnected() && consumer.consume(1, () => undefined), 100)
  const assigned = async (ready) => {
    while (!ready(consumer.assignments())) await new Promise((resolve) => setTimeout(resolve, 100))
  }
  const leave = () => {
    clearInterval(polling)
    return called((done) => consumer.disconnect(done))
  }
  return { consumer, assigned, leave }
}

async function main() {
  const producer = new Producer({ ...brokers, 'transactional.id': group })
  await called((done) => producer.connect({}, done))
  await called((done) => producer.initTransactions(30_000, done))
  const first = await join()
  await first.assigned((partitions) => partitions.length > 0)
  await called((done) => producer.beginTransaction(done))
  // Read in generation 1, and still to be sent.
  const offsets = [{ ...first.consumer.assignments()[0], offset: 1 }]
  const second = await join()
  await second.assigned((partitions) => partitions.length > 0)
  await second.leave()
  await first.assigned((partitions) => partitions.length > 0)
  await called((done) => producer.sendOffsetsToTransaction(offsets, first.consumer, 10_000, done))
  console.log('offsets of an earlier generation were taken')
  process.exit()
}

main().catch((error) => {
  console.log(`refused: ${error.message}`)
  process.exit(1)
})
