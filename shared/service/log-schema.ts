import { type Static, type TSchema, Type } from '@sinclair/typebox'

/**
 * The lines of the log, by the Elastic Common Schema (ECS). The code logs short names; here is what each is called in a line, and of which type it is. Fields that ECS
 * does not have are below `kafkatrace.`. A name has one type everywhere, since Elasticsearch drops a line with another.
 */

interface Field {
  /** In a line. */
  name: string
  type: TSchema
  says: string
}

const text = Type.String()
const texts = Type.Union([Type.String(), Type.Array(Type.String())])
const integer = Type.Integer()
const flag = Type.Boolean()

const ecs = (name: string, type: TSchema, says: string): Field => ({ name, type, says })

/** Of ECS itself, by the code's names. */
const STANDARD = {
  time: ecs(
    '@timestamp',
    Type.String({ pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$' }),
    'when, in UTC',
  ),
  level: ecs(
    'log.level',
    Type.Union(['trace', 'debug', 'info', 'warn', 'error', 'fatal'].map((level) => Type.Literal(level))),
    'how severe',
  ),
  msg: ecs('message', text, 'what happened. The texts are for people and may change'),
  ecs: ecs('ecs.version', text, 'of the Elastic Common Schema'),
  service: ecs(
    'service.name',
    text,
    '`kafkatrace-producer`, `kafkatrace-consumer`, `kafkatrace-console` or `kafkatrace-topics`, as in spans',
  ),
  pid: ecs('process.pid', integer, 'the process'),
  traceId: ecs('trace.id', text, 'the trace of the request or event; 32 hex digits'),
  spanId: ecs('span.id', text, 'the span, where one is recorded; 16 hex digits'),
  requestId: ecs('http.request.id', text, 'the request; it is in its answer as `X-Request-Id`'),
  status: ecs('http.response.status_code', integer, 'the status of the answer'),
  client: ecs('client.address', text, 'the sender’s address, of requests that are refused for their credentials'),
  reason: ecs(
    'event.reason',
    text,
    'why. Of a failed attempt or a dead letter it is one of few texts, as in `kt-error`',
  ),
  message: ecs('error.message', text, 'what failed'),
  errorType: ecs('error.type', text, 'the class of the error'),
  code: ecs('error.code', text, 'a code of Kafka’s client, or of the system'),
  stack: ecs('error.stack_trace', text, 'where a handler, or our own code, threw it'),
} as const satisfies Record<string, Field>

/** Ours, by the code's names. */
const OWN: Readonly<Record<string, readonly [TSchema, string]>> = {
  tenant: [text, 'the tenant'],
  stream: [text, 'the stream'],
  key: [text, 'the id of the key, or who a token stands for'],
  by: [text, 'who has done it: the id of a key, or of a token'],
  problem: [text, 'why the request is refused: the last part of the problem’s `type`'],
  route: [text, 'the route of a request to the console'],
  origin: [text, 'of a page of another website'],
  eventId: [text, 'the event’s id'],
  source: [text, 'the event’s source; of a webhook, its source’s name'],
  type: [text, 'the event’s type'],
  events: [texts, 'the ids of the request’s events, at most 256 characters of each'],
  topic: [text, 'the topic of the record'],
  partition: [text, 'the partition: its number, or `TOPIC/NUMBER`'],
  offset: [integer, 'the offset of the record'],
  deadLetterTopic: [text, 'where the dead letter is'],
  deadLetterPartition: [text, 'where the dead letter is'],
  attempt: [integer, 'which attempt it was, or how many times something was tried'],
  attempts: [integer, 'how many attempts a handler has made'],
  handler: [text, 'the handler that failed, `TYPE@VERSION`'],
  printed: [text, 'what a handler has printed'],
  because: [text, 'why a webhook is not verified'],
  faults: [texts, 'what is wrong with it'],
  pointers: [texts, 'where the data is not as its schema wants it'],
  schema: [text, 'the schema, `SUBJECT` or `SUBJECT/VERSION`'],
  summary: [
    Type.Object({
      events: integer,
      stored: integer,
      notStored: integer,
      unknown: integer,
      refused: integer,
      complete: flag,
    }),
    'of an NDJSON stream: what became of its events, as its last line says',
  ],
  since: [text, 'since when'],
  webhooks: [integer, 'how many webhooks'],
  partitions: [texts, 'the partitions, `TOPIC/NUMBER`'],
  lost: [flag, 'whether the partitions were lost, not given back'],
  from: [integer, 'the offset at which reading begins'],
  known: [integer, 'outcomes that are known'],
  waiting: [integer, 'events that wait in `.retry`'],
  seconds: [Type.Number(), 'how long it took'],
  skipped: [integer, 'offsets that are passed over'],
  records: [integer, 'how many records'],
  offsets: [Type.Array(integer), 'the first of their offsets'],
  held: [text, 'the partition that a transaction holds back'],
  id: [text, 'a transactional id'],
  kind: [text, 'what became of a hanging transaction'],
  transaction: [text, 'the hanging transaction'],
  completed: [integer, 'outcomes that were written again'],
  at: [text, 'when an operator has decided it'],
  step: [text, 'the step of stopping'],
  signal: [text, 'the signal'],
  timeoutMs: [integer, 'how long was waited'],
  requests: [integer, 'requests in flight'],
  port: [integer, 'the public port'],
  opsPort: [integer, 'the operations port'],
  brokers: [text, '`KAFKA_BROKERS`'],
  securityProtocol: [text, '`KAFKA_SECURITY_PROTOCOL`'],
  saslMechanism: [text, '`KAFKA_SASL_MECHANISM`'],
  auth: [text, '`AUTH`'],
  group: [text, '`GROUP_ID`'],
  instance: [text, '`INSTANCE_ID`'],
  streams: [texts, 'the streams, `TENANT/STREAM`'],
  sources: [texts, 'the sources of webhooks'],
  types: [texts, 'the types that have a handler'],
  unhandled: [text, '`UNHANDLED`'],
  kafkaClient: [text, 'which of the service’s Kafka clients'],
  clients: [integer, 'how many Kafka clients'],
  changed: [texts, 'which credentials have changed'],
  count: [integer, 'how many of what the message names'],
  before: [integer, 'the number before'],
  replicas: [integer, 'the number of producers'],
  failures: [integer, 'the number of failures'],
  topics: [integer, 'how many topics'],
  first: [texts, 'the first of them, with their partitions if those are too few'],
  reasons: [texts, 'why'],
  partitionsEach: [integer, 'partitions of each topic'],
  replication: [integer, 'the replication factor'],
  wanted: [integer, 'the number that is configured'],
  subjects: [texts, 'subjects of schemas'],
  versions: [texts, 'versions of schemas'],
  file: [text, 'the file'],
  rows: [integer, 'rows of the reference table'],
  name: [text, 'the name that is resolved, or of a file'],
  notAfter: [text, 'when a certificate expires'],
  issuer: [text, '`JWT_ISSUER`'],
  keys: [texts, 'ids of the issuer’s keys'],
  tenants: [integer, 'how many tenants'],
  newStreams: [text, 'streams that the tenants file has and had not'],
  removedStreams: [text, 'streams that it has no more'],
  newKeys: [text, 'ids of keys and certificates that it has and had not'],
  removedKeys: [text, 'ids of those that it has no more'],
  replacedKeys: [text, 'ids of those that are others now, or may do something else'],
  chars: [integer, 'the length of a token'],
  address: [text, 'an address'],
  endpoint: [text, 'the collector of spans'],
  job: [text, 'a job of the console'],
  letter: [text, 'the place of a dead letter'],
}

/** `deadLetterTopic`: `kafkatrace.dead_letter_topic`. */
const ownName = (short: string): string =>
  `kafkatrace.${short.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`

const FIELDS = new Map<string, Field>([
  ...Object.entries(STANDARD),
  ...Object.entries(OWN).map(([short, [type, says]]): [string, Field] => [short, { name: ownName(short), type, says }]),
])

/** What a line calls a field; undefined in the schema means that it is below `kafkatrace.` all the same. */
export const lineName = (short: string): string => FIELDS.get(short)?.name ?? ownName(short)

/** Fields that are numbers in the code in places, and text in a line. */
const AS_TEXT = new Set(['partition', 'deadLetterPartition', 'code'])

/** A field's value in a line. */
export const lineValue = (short: string, value: unknown): unknown =>
  AS_TEXT.has(short) && typeof value === 'number' ? String(value) : value

const REQUIRED = new Set<string>(['time', 'level', 'msg', 'ecs', 'service', 'pid'])

/** A line of the log. */
export const LogLine = Type.Object(
  Object.fromEntries(
    [...FIELDS].map(([short, { name, type }]) => [name, REQUIRED.has(short) ? type : Type.Optional(type)]),
  ),
  { additionalProperties: false },
)
export type LogLine = Static<typeof LogLine>

const SHORT = new Map([...FIELDS].map(([short, { name }]) => [name, short]))

/** A line with the code's names, for tests and tools that read logs. */
export function shortLine(line: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const short: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(line)) {
    const known =
      SHORT.get(name) ?? name.replace(/^kafkatrace\./, '').replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())
    const isNumber = AS_TEXT.has(known) && typeof value === 'string' && /^-?\d+$/.test(value)
    short[known] = isNumber ? Number(value) : value
  }
  if (typeof short['service'] === 'string') short['service'] = short['service'].replace(/^kafkatrace-/, '')
  return short
}

/** A table of all fields, in Markdown. */
export const fieldsMarkdown = (): string =>
  [
    '| field | type | |',
    '|---|---|---|',
    ...[...FIELDS.values()].map(({ name, type, says }) => `| \`${name}\` | ${typeInWords(type)} | ${says} |`),
  ].join('\n')

function typeInWords({ type, anyOf }: TSchema): string {
  if (anyOf === undefined) return type === 'string' ? 'text' : type === 'array' ? 'list of numbers' : String(type)
  return anyOf.some((one: TSchema) => one.type === 'array') ? 'text, or list of texts' : 'text'
}
