// Four clients wait for a broker that never answers: a file is read only after they have given up.
const { readFile } = require('node:fs')
const { createServer } = require('node:net')
const { Producer } = require('@confluentinc/kafka-javascript')

const server = createServer(() => {}).listen(0, '127.0.0.1', () => {
  const brokers = `127.0.0.1:${server.address().port}`
  const clients = Array.from({ length: 4 }, () => new Producer({ 'bootstrap.servers': brokers, log_level: 0 }))
  for (const client of clients) client.connect({ timeout: 5_000 }, () => undefined)
  // By then each asks for metadata, in a thread of the pool.
  setTimeout(() => {
    const began = performance.now()
    readFile(__filename, () => {
      console.log(`a file is read after ${Math.round(performance.now() - began)} ms`)
      process.exit()
    })
  }, 500)
})
