import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { inputTopic, NAME_PATTERN } from '../../events/topics.ts'
import { argumentsOf, FailedError, UnavailableError, UnreadableError, UsageError } from '../../service/command-line.ts'
import { commonFaults, commonVariables, loadConfig } from '../../service/config.ts'
import { within } from '../../service/retry.ts'
import { messageOf } from '../../service/thrown.ts'
import { Inference } from '../infer.ts'
import { sampleLines, sampleStream } from '../samples.ts'
import { type Command, EXIT_HELP, type Io, plural } from './command.ts'

const DEFAULT_MOST = 1_000
const MAX_MOST = 1_000_000
const REACH_TIMEOUT_MS = 15_000

const HELP = `A first draft of a schema, from data.

Usage: bun run schema infer --stream TENANT/STREAM --type TYPE [--most N]
       bun run schema infer FILE.ndjson [--type TYPE] [--most N]

  --stream  reads the newest events of this stream from Kafka
  --type    the type of the events. With a file: its lines are events as \`kt send\` takes them, and their data counts; without it,
            each line is data
  FILE      a line of JSON each; - is standard input
  --most    how many events; ${DEFAULT_MOST.toLocaleString('en')} where not given
  --help    this text

Standard output has the schema and nothing else. It takes everything that it was made from. It is open: other members are allowed.
Read it before you use it: what is always there by chance becomes required, and values that are few lower-case words become an enum.
The brokers are those of the services' variables: KAFKA_BROKERS, KAFKA_…

${EXIT_HELP}
`

export const infer: Command = {
  usage: 'infer',
  summary: 'a first draft of a schema, from data',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {
      stream: { type: 'string' },
      type: { type: 'string' },
      most: { type: 'string', default: String(DEFAULT_MOST) },
    })
    const { stream, type } = values
    const most = /^[1-9]\d{0,6}$/.test(values.most) ? Number(values.most) : 0
    if (most < 1 || most > MAX_MOST)
      throw new UsageError(`--most ${values.most}: not a number from 1 to ${MAX_MOST.toLocaleString('en')}`)
    if ((stream === undefined) === (positionals.length === 0) || positionals.length > 1)
      throw new UsageError('one of --stream and FILE is needed')
    const inference = new Inference()
    if (stream !== undefined) {
      if (type === undefined) throw new UsageError('--type is missing')
      await fromStream(inference, topicOf(stream), type, most, io)
    } else await fromFile(inference, positionals[0] ?? '', { type, most })
    if (inference.events === 0)
      throw new FailedError(
        type === undefined ? 'there is no data' : `there is no event of type ${type} with data in JSON`,
      )
    io.out(JSON.stringify(inference.schema(), null, 2))
    io.say(`from ${plural(inference.events, 'event')}; read it before you use it`)
    return 0
  },
}

function topicOf(stream: string): string {
  const names = stream.split('/')
  const [tenant = '', name = ''] = names
  if (names.length !== 2 || !names.every((one) => new RegExp(NAME_PATTERN).test(one)))
    throw new UsageError(`--stream ${stream}: not TENANT/STREAM, such as default/events`)
  return inputTopic(tenant, name)
}

async function fromFile(
  inference: Inference,
  file: string,
  options: { type: string | undefined; most: number },
): Promise<void> {
  try {
    await sampleLines(inference, file === '-' ? Bun.stdin.stream() : Bun.file(file).stream(), options)
  } catch (error) {
    throw new UnreadableError(`${file}: ${messageOf(error)}`)
  }
}

async function fromStream(
  inference: Inference,
  topic: string,
  type: string,
  most: number,
  { env, say }: Pick<Io, 'env' | 'say'>,
): Promise<void> {
  const config = loadConfig(Type.Object(commonVariables), env, commonFaults)
  // Imported here, so that the other commands need no addon.
  const { createRangeReader } = await import('../../kafka/range-reader.ts')
  let reason: string | undefined
  const write = (line: string): void => {
    reason = (JSON.parse(line) as { reason?: string }).reason ?? reason
  }
  const log = pino({ level: 'warn' }, { write })
  const reader = createRangeReader({ config, clientId: 'kafkatrace-schema', log, forScans: true })
  try {
    const partitions = await within(
      REACH_TIMEOUT_MS,
      reader.partitionCount(topic),
      `Kafka at ${config.KAFKA_BROKERS} has not answered`,
    )
    if (partitions === 0)
      throw new FailedError(`there is no topic ${topic}, or it may not be described with these credentials`)
    const { offsets, withoutJson } = await sampleStream(inference, reader, { topic, partitions, type, most })
    say(`looked at ${plural(offsets, 'offset')} of ${topic}`)
    if (withoutJson > 0) say(`${plural(withoutJson, 'event')} of the type without data in JSON`)
  } catch (error) {
    if (error instanceof FailedError) throw error
    throw new UnavailableError(`${messageOf(error)}${reason === undefined ? '' : `: ${reason}`}`)
  } finally {
    await reader.close()
  }
}
