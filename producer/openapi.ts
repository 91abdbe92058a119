import { type TSchema, Type } from '@sinclair/typebox'
import { MAX_ATTRIBUTE_LENGTH, MEDIA_TYPE_PATTERN } from '../shared/events/event.ts'
import { NAME_PATTERN } from '../shared/events/topics.ts'
import { DEFAULT_STREAM } from '../shared/http/authorise.ts'
import { EventFault, PROBLEMS, type ProblemKind, problemType } from '../shared/http/problem.ts'
import type { ProducerConfig } from './config.ts'
import { LINES } from './media-type.ts'
import {
  AnswerLine,
  LastProblem,
  MAX_LINES_WITHOUT_EVENT,
  ProblemLine,
  ReceiptLine,
  StreamSummary,
  SummaryLine,
} from './ndjson.ts'
import { KINDS, ProblemDocument } from './problem.ts'
import { EventOutcome, Receipt, Receipts } from './receipt.ts'

/**
 * The OpenAPI 3.1 description of the public interface, from the schemas that the code uses. Common generators make clients of it that compile and run, which
 * `bun run check:deploy clients` checks.
 */

/** CloudEvents 1.0.2, section 3.1: no control characters. The service also refuses noncharacters outside the basic plane. */
const text = {
  minLength: 1,
  maxLength: MAX_ATTRIBUTE_LENGTH,
  pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f\\ufdd0-\\ufdef\\ufffe\\uffff]*$',
}
const uri = { format: 'uri-reference', minLength: 1, maxLength: MAX_ATTRIBUTE_LENGTH }

/** RFC 4648, section 4: padded, and no bits left over. */
const BASE64 = '^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$'

/** JSON event format 1.0.2, section 2.2: null is the same as absent. */
const orAbsent = <T extends TSchema>(schema: T, description: string) =>
  Type.Optional(Type.Union([schema, Type.Null()], { description }))

const specversion = Type.Literal('1.0', { description: 'The version of CloudEvents.' })
const type = Type.String({ ...text, description: 'What happened.', examples: ['com.example.order.placed'] })
const optional = {
  subject: orAbsent(Type.String(text), 'What it happened to; the record’s key unless there is a partitionkey.'),
  time: orAbsent(Type.String({ format: 'date-time' }), 'RFC 3339, with an offset.'),
  // With a "default", generators make it a required member in TypeScript.
  datacontenttype: orAbsent(
    Type.String({ pattern: MEDIA_TYPE_PATTERN, maxLength: MAX_ATTRIBUTE_LENGTH }),
    'The media type of data; application/json when absent.',
  ),
  dataschema: orAbsent(Type.String({ format: 'uri' }), 'An absolute URI.'),
  partitionkey: orAbsent(Type.String(text), 'The record’s key: events of one key stay in order.'),
  data: Type.Optional(
    Type.Unknown({ description: 'JSON, passed on byte for byte; a string where datacontenttype is not JSON.' }),
  ),
  data_base64: orAbsent(Type.String({ contentEncoding: 'base64', pattern: BASE64 }), 'Instead of data: any bytes.'),
}

/** The values of an extension attribute: CloudEvents 1.0.2, section 3.1. */
export const Extension = Type.Union([
  Type.String({ maxLength: text.maxLength, pattern: text.pattern }),
  Type.Boolean(),
  Type.Integer({ minimum: -(2 ** 31), maximum: 2 ** 31 - 1 }),
  Type.Null(),
])

/** JSON event format 1.0.2, section 3.1: of another media type than JSON, data is a string. */
const DATA_BY_MEDIA_TYPE = {
  if: {
    properties: { datacontenttype: { type: 'string', not: { pattern: '^[^;]*[/+][jJ][sS][oO][nN][ \\t]*(;|$)' } } },
  },
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
  then: { properties: { data: { type: 'string' } } },
}

const members = {
  // TypeScript would apply the type of additional properties to "data", too. So it is open here; `dependentSchemas`, which no generator reads, narrows it.
  additionalProperties: Type.Unknown({ description: 'An extension attribute: text, a boolean or a whole number.' }),
  dependentSchemas: {
    type: { patternProperties: { '^(?!data$)[a-z0-9]+$': Extension, '^data(_base64)?$': {} } },
    datacontenttype: DATA_BY_MEDIA_TYPE,
  },
  propertyNames: { pattern: '^([a-z0-9]+|data_base64)$' },
  not: { required: ['data', 'data_base64'], properties: { data: {}, data_base64: { type: 'string' } } },
}

export const CloudEvent = Type.Object(
  {
    specversion,
    id: Type.String({ ...text, description: 'Unique within the source. Repeat it when you repeat the event.' }),
    source: Type.String({ ...uri, description: 'Where the event comes from, a URI-reference.' }),
    type,
    ...optional,
  },
  {
    title: 'CloudEvent',
    description: 'A CloudEvent 1.0 in the JSON event format. Other members are extension attributes.',
    ...members,
  },
)

export const PlainEvent = Type.Object(
  {
    type,
    specversion: orAbsent(specversion, 'Makes it a CloudEvent, which needs an id and a source.'),
    id: orAbsent(Type.String(text), 'Made (UUIDv7) when absent; then a repeated request is another event.'),
    source: orAbsent(Type.String(uri), 'The tenant’s when absent.'),
    ...optional,
  },
  {
    title: 'PlainEvent',
    description:
      'An event of which the rest is filled in. With a specversion it is a CloudEvent, and has to be a whole one.',
    ...members,
    if: { required: ['specversion'], properties: { specversion: { type: 'string' } } },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
    then: { required: ['id', 'source'], properties: { id: { type: 'string' }, source: { type: 'string' } } },
  },
)

const ref = (kind: 'schemas' | 'parameters' | 'responses', name: string) => ({ $ref: `#/components/${kind}/${name}` })

/**
 * A body of several events. The array is in an `allOf`, since openapi-python-client distinguishes bodies by `isinstance`, which raises a TypeError for a list.
 * It makes a class of this instead, which is of no use, but requests with one event work.
 */
const batchOf = (items: 'PlainEvent' | 'CloudEvent', maxItems: number) => ({
  title: `${items}Batch`,
  description: `At most ${maxItems} events: all of them are stored, or none when one is invalid.`,
  allOf: [{ type: 'array', items: ref('schemas', items), maxItems }],
})

const EXAMPLE = { type: 'com.example.order.placed', subject: 'order-42', data: { total: 99.5 } }
const CLOUD_EXAMPLE = { specversion: '1.0', id: '42-1', source: '/shop', ...EXAMPLE }

const problem = (description: string, headers: Record<string, unknown> = {}) => ({
  description,
  headers: { 'X-Request-Id': REQUEST_ID, ...headers },
  content: { 'application/problem+json': { schema: ref('schemas', 'Problem') } },
})

const REQUEST_ID = { description: 'The request’s id in the service’s log.', schema: { type: 'string' } }

const KINDS_BY_STATUS = Map.groupBy(KINDS, (kind) => PROBLEMS[kind].status)
// A documented path allows the documented methods.
KINDS_BY_STATUS.delete(405)

/** The response of a status, with all problems that have it. */
const problemsOf = (status: number, kinds: readonly ProblemKind[]) =>
  problem(
    kinds.map((kind) => `${PROBLEMS[kind].title} (\`${problemType(kind)}\`).`).join(' '),
    status === 429 || status === 503
      ? { 'Retry-After': { description: 'Seconds to wait.', schema: { type: 'integer' } } }
      : {},
  )

const ATTRIBUTE_HEADERS = ['specversion', 'id', 'source', 'type', 'subject', 'time'] as const

const header = (name: string, description: string) => ({
  name,
  in: 'header',
  required: false,
  description,
  schema: { type: 'string' },
})

const PARAMETERS: Record<string, Record<string, unknown>> = {
  stream: {
    name: 'stream',
    in: 'path',
    required: true,
    description: 'One of the tenant’s streams.',
    schema: { type: 'string', pattern: NAME_PATTERN },
  },
  source: {
    name: 'source',
    in: 'path',
    required: true,
    description: 'A source that is declared.',
    schema: { type: 'string', pattern: NAME_PATTERN },
  },
  ...Object.fromEntries(
    ATTRIBUTE_HEADERS.map((name) => [
      `ce-${name}`,
      header(
        `ce-${name}`,
        `Binary mode: the attribute ${name}, percent-encoded. So are all others; the body is then the data, of any media type.`,
      ),
    ]),
  ),
  'X-Request-Id': header(
    'X-Request-Id',
    'Returned, and in the service’s log. Made when absent, longer than 128 characters, or not of printable ASCII without spaces. Not returned by a service that refuses everybody.',
  ),
  traceparent: header('traceparent', 'W3C Trace Context; passed on with the events.'),
  'WebHook-Request-Origin': header('WebHook-Request-Origin', 'The sender’s DNS name.'),
  'WebHook-Request-Rate': header('WebHook-Request-Rate', 'Requests per minute asked for.'),
}

function eventsPath(config: ProducerConfig, operationId: string, stream?: string): Record<string, unknown> {
  return {
    ...(stream === undefined ? { parameters: [ref('parameters', 'stream')] } : {}),
    post: {
      operationId,
      tags: ['events'],
      summary: `Store events${stream === undefined ? '' : ` in the stream "${stream}"`}`,
      description: `Answers when Kafka has the events. Bodies may be compressed (Content-Encoding: gzip, zstd) and take up to ${config.MAX_BODY_BYTES} bytes decompressed and ${config.MAX_BATCH_EVENTS} events; NDJSON streams have no end. An event may take ${config.MAX_EVENT_BYTES} bytes as a record.`,
      parameters: [...ATTRIBUTE_HEADERS.map((name) => `ce-${name}`), 'X-Request-Id', 'traceparent'].map((name) =>
        ref('parameters', name),
      ),
      requestBody: {
        required: true,
        content: {
          'application/json': {
            schema: { oneOf: [ref('schemas', 'PlainEvent'), ref('schemas', 'PlainEventBatch')] },
            examples: {
              one: { value: EXAMPLE },
              several: { value: [EXAMPLE, { type: 'com.example.order.paid', subject: 'order-42' }] },
            },
          },
          'application/cloudevents+json': { schema: ref('schemas', 'CloudEvent'), example: CLOUD_EXAMPLE },
          'application/cloudevents-batch+json': {
            schema: ref('schemas', 'CloudEventBatch'),
            example: [CLOUD_EXAMPLE],
          },
          ...Object.fromEntries(
            LINES.map((type) => [
              type,
              {
                schema: { type: 'string', description: 'A PlainEvent or CloudEvent a line.' },
                example: `${JSON.stringify(EXAMPLE)}\n`,
              },
            ]),
          ),
        },
      },
      responses: {
        '200': {
          description: `NDJSON only: a line of answer for each line that is not empty, in order, as it is stored, and a summary at the end. Where not all was read, the line before the summary says why: the body is not what its encoding says, no event has come for NDJSON_PROGRESS_TIMEOUT_MS=${config.NDJSON_PROGRESS_TIMEOUT_MS}, too little of the answers was read for as long, ${MAX_LINES_WITHOUT_EVENT} lines in a row were refused, the key may not send any more, or the service is stopping.`,
          content: { 'application/x-ndjson': { schema: ref('schemas', 'AnswerLine') } },
        },
        '202': {
          description: 'Every event is stored: all in-sync replicas have it.',
          headers: {
            'X-Request-Id': REQUEST_ID,
            RateLimit: { description: 'Where the tenant has a quota: what is left of it.', schema: { type: 'string' } },
            'RateLimit-Policy': { description: 'Where the tenant has a quota.', schema: { type: 'string' } },
          },
          content: { 'application/json': { schema: ref('schemas', 'Receipts') } },
        },
        ...Object.fromEntries(
          [...KINDS_BY_STATUS.keys()].map((status) => [status, ref('responses', `Problem${status}`)]),
        ),
      },
    },
    options: {
      operationId: `${operationId}Handshake`,
      tags: ['webhooks'],
      summary: 'The validation handshake of CloudEvents webhooks',
      description: 'A sender that asks for permission (WebHook-Request-Origin) is given it where it may send.',
      security: [],
      parameters: ['WebHook-Request-Origin', 'WebHook-Request-Rate'].map((name) => ref('parameters', name)),
      responses: {
        '200': {
          description: 'With WebHook-Allowed-Origin: deliveries are welcome.',
          headers: {
            Allow: { schema: { type: 'string' } },
            'WebHook-Allowed-Origin': { schema: { type: 'string' } },
            'WebHook-Allowed-Rate': { description: 'Requests per minute, or *.', schema: { type: 'string' } },
          },
        },
        '400': problem(PROBLEMS.malformed.title),
        '401': problem(PROBLEMS.unauthenticated.title),
        '403': problem(PROBLEMS.forbidden.title),
        '404': problem(PROBLEMS['unknown-stream'].title),
        '429': problem(PROBLEMS['too-many-failures'].title),
      },
    },
  }
}

/** No client is generated to be a sender of webhooks; this is for people. */
const SOURCES_PATH = {
  parameters: [ref('parameters', 'source')],
  post: {
    operationId: 'postWebhook',
    tags: ['webhooks'],
    summary: 'Store a webhook, as its sender sends it',
    description:
      'For senders such as GitHub, Stripe or Slack, which sign what they send instead of having a key. TENANTS_FILE declares each source: its kind, its stream and its secrets. The body is stored byte for byte; a form becomes JSON, and is kept beside it.',
    security: [],
    parameters: [ref('parameters', 'X-Request-Id'), ref('parameters', 'traceparent')],
    requestBody: {
      required: true,
      content: {
        'application/json': { schema: { description: 'What the sender sends.' } },
        'application/x-www-form-urlencoded': { schema: { type: 'object', additionalProperties: true } },
        'application/x-ndjson': { schema: { type: 'string', description: 'Of a source of logs: one a line.' } },
      },
    },
    responses: {
      '200': { description: 'Stored, or answered without an event, as this sender expects it.' },
      '202': {
        description: 'Every event is stored: all in-sync replicas have it.',
        headers: { 'X-Request-Id': REQUEST_ID },
        content: { 'application/json': { schema: ref('schemas', 'Receipts') } },
      },
      ...Object.fromEntries(
        // What is over quota is answered 503.
        [...KINDS_BY_STATUS.keys()]
          .filter((status) => status !== 429)
          .map((status) => [status, ref('responses', `Problem${status}`)]),
      ),
    },
  },
}

/** By title. Where one is part of another, the document has a reference, so that a generated client has one type for it. */
const SCHEMAS: ReadonlyMap<string | undefined, TSchema> = new Map(
  [
    PlainEvent,
    CloudEvent,
    Receipts,
    Receipt,
    EventOutcome,
    ProblemDocument,
    EventFault,
    AnswerLine,
    ReceiptLine,
    ProblemLine,
    LastProblem,
    SummaryLine,
    StreamSummary,
  ].map((schema: TSchema) => [schema.title, schema]),
)

function withReferences(value: unknown, top: boolean): unknown {
  if (Array.isArray(value)) return value.map((one) => withReferences(one, false))
  if (typeof value !== 'object' || value === null) return value
  const { title } = value as { title?: unknown }
  if (!top && typeof title === 'string' && SCHEMAS.has(title)) return ref('schemas', title)
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, withReferences(one, false)]))
}

const SECURITY_SCHEMES = {
  bearer: { type: 'http', scheme: 'bearer', description: 'Authorization: Bearer <key>, or with AUTH=jwt a token.' },
  key: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
  query: {
    type: 'apiKey',
    in: 'query',
    name: 'access_token',
    description: 'For senders of webhooks that can set no header; URLs are easily logged.',
  },
}

export function openApi(config: ProducerConfig): Record<string, unknown> {
  return {
    openapi: '3.1.0',
    info: {
      title: 'KafkaTrace',
      version: 'v1',
      summary: 'Events in over HTTP, stored in Kafka before the answer.',
      description:
        'Send CloudEvents or plain JSON. 202 means stored, on all in-sync replicas. After a 503, a broken connection, or an error that is no problem document, send the same ids again: they take effect once.',
      contact: { name: 'The operators of this service' },
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/', description: 'The service that this description comes from.' }],
    tags: [
      { name: 'events', description: 'Events, stored in Kafka before the answer.' },
      { name: 'webhooks', description: 'What senders of webhooks send, and ask before they send.' },
    ],
    security: config.AUTH !== 'off' ? [{ bearer: [] }, { key: [] }, { query: [] }] : [],
    paths: {
      '/v1/events': eventsPath(config, 'postEvents', DEFAULT_STREAM),
      '/v1/streams/{stream}/events': eventsPath(config, 'postStreamEvents'),
      '/v1/sources/{source}': SOURCES_PATH,
    },
    components: {
      schemas: {
        ...Object.fromEntries([...SCHEMAS].map(([title, schema]) => [title, withReferences(schema, true)])),
        ...Object.fromEntries(
          (['PlainEvent', 'CloudEvent'] as const)
            .map((items) => batchOf(items, config.MAX_BATCH_EVENTS))
            .map((batch) => [batch.title, batch]),
        ),
      },
      parameters: PARAMETERS,
      responses: Object.fromEntries(
        [...KINDS_BY_STATUS].map(([status, kinds]) => [`Problem${status}`, problemsOf(status, kinds)]),
      ),
      ...(config.AUTH !== 'off' ? { securitySchemes: SECURITY_SCHEMES } : {}),
    },
  }
}
