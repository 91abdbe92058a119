// A consumer that has been told of a rebalance, and has not answered it, is disconnected: `node disconnect.js HOST:PORT`, with a topic named "topic".
const { KafkaConsumer } = require('@confluentinc/kafka-javascript')

const consumer = new KafkaConsumer({
  'bootstrap.servers': process.argv[2],
  'group.id': `group-${Date.now()}`,
  'partition.assignment.strategy': 'cooperative-sticky',
  // It would be answered later, when what is under way is done.
  rebalance_cb: () => console.log('told of a rebalance'),
})
consumer.connect({}, (error) => {
  if (error) throw error
  consumer.subscribe(['topic'])
  const polling = setInterval(() => consumer.consume(1, () => undefined), 100)
  setTimeout(() => {
    clearInterval(polling)
    console.log('disconnecting')
    consumer.disconnect(() => {
      console.log('disconnected')
      process.exit()
    })
    setTimeout(() => {
      console.log('not disconnected after 20 s')
      // Ending in order would wait, too.
      process.kill(process.pid, 'SIGKILL')
    }, 20_000)
  }, 10_000)
})
