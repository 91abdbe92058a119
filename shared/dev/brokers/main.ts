/** Runs one broker in the foreground: `bun shared/dev/brokers/main.ts --help`. */

import { parseCommandLine, refuse } from '../../service/command-line.ts'
import { BrokerUnavailableError } from './broker.ts'
import { brokerSyntax, defaultBrokerChoice, parseBrokerChoice, startBroker } from './choose.ts'
import { seenGone } from './external.ts'

const help = `Runs a broker until Ctrl-C and prints its address. Ends with 1 when the broker does not answer any more.

  bun shared/dev/brokers/main.ts [--broker ${brokerSyntax}] [--nodes 1|3] [--port N]

  --broker   embedded: in memory, for trying things out; needs nothing
             kafka:    Apache Kafka from Maven Central; needs Java 17 and Maven
             redpanda: from compose.yaml; needs Docker
             Without it: KAFKA_BROKERS where set, Redpanda where Docker answers, else embedded.
  --nodes    kafka only: one node (the default) or three
  --port     kafka only: the port of the first node; a free one where not given
`

const { values } = parseCommandLine(help, {
  options: { broker: { type: 'string' }, nodes: { type: 'string', default: '1' }, port: { type: 'string' } },
})
const nodes = values.nodes === '1' ? 1 : values.nodes === '3' ? 3 : refuse('--nodes is 1 or 3', help)
const port = values.port === undefined ? undefined : Number(values.port)
if (port !== undefined && !(Number.isInteger(port) && port > 0 && port < 65_536)) refuse('--port is 1 to 65535', help)
const choice = values.broker === undefined ? (await defaultBrokerChoice()).choice : parseBrokerChoice(values.broker)
if (choice === undefined) refuse(`--broker is ${brokerSyntax}`, help)

const interrupted = Promise.withResolvers<void>()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted.resolve())

try {
  const broker = await startBroker(choice, {
    nodes,
    ...(port === undefined ? {} : { port }),
    say: (progress) => console.error(`${choice.kind}: ${progress}`),
  })
  console.log(`${broker.bootstrapServers}`)
  console.error(`${broker.description}\nCtrl-C stops it`)
  const gone = await Promise.race([interrupted.promise, seenGone(broker.bootstrapServers)])
  if (gone !== undefined) console.error(`the broker does not answer any more: ${gone}`)
  await broker.stop()
  process.exit(gone === undefined ? 0 : 1)
} catch (error) {
  if (!(error instanceof BrokerUnavailableError)) throw error
  console.error(error.message)
  process.exit(1)
}
