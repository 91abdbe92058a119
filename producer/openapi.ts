import { type TSchema, Type } from '@sinclair/typebox'
import { NAME_PATTERN } from '../shared/topics.ts'
import { DEFAULT_STREAM } from './authenticate.ts'
import type { ProducerConfig } from './config.ts'
import { AnswerLine } from './ndjson.ts'
import { PROBLEMS, ProblemDocument, type ProblemKind, problemType } from './problem.ts'
import { EventOutcome, Receipt, Receipts } from './receipt.ts'

/** The OpenAPI 3.1 description of the public interface, from the schemas that the code uses. */

const uri = { format: 'uri-reference', minLength: 1 }

const attributes = {
  id: Type.String({ minLength: 1, description: 'Unique within the source. Repeat it when you repeat the event.' }),
  source: Type.String({ ...uri, description: 'Where the event comes from, a URI-reference.' }),
  type: Type.String({ minLength: 1, description: 'What happened.', examples: ['com.example.order.placed'] }),
}
const optional = {
  subject: Type.Optional(
    Type.String({ minLength: 1, description: 'What it happened to; the record’s key unless there is a partitionkey.' }),
  ),
  time: Type.Optional(Type.String({ format: 'date-time', description: 'RFC 3339.' })),
  datacontenttype: Type.Optional(Type.String({ description: 'The media type of data.', default: 'application/json' })),
  dataschema: Type.Optional(Type.String({ format: 'uri', description: 'An absolute URI.' })),
  partitionkey: Type.Optional(
    Type.String({ minLength: 1, description: 'The record’s key: events of one key stay in order.' }),
  ),
  data: Type.Optional(
    Type.Unknown({ description: 'JSON, passed on byte for byte; a string where datacontenttype is not JSON.' }),
  ),
  data_base64: Type.Optional(Type.String({ contentEncoding: 'base64', description: 'Instead of data: any bytes.' })),
}

/** Extension attributes: CloudEvents 1.0.2, section 3.1 and its type system. */
const extensions = {
  additionalProperties: Type.Union([Type.String(), Type.Boolean(), Type.Integer(), Type.Null()]),
  propertyNames: { pattern: '^([a-z0-9]+|data_base64)$' },
}

export const CloudEvent = Type.Object(
  { specversion: Type.Literal('1.0'), ...attributes, ...optional },
  {
    title: 'CloudEvent',
    description: 'A CloudEvent 1.0 in the JSON event format. Other members are extension attributes.',
    ...extensions,
  },
)

export const PlainEvent = Type.Object(
  {
    type: attributes.type,
    id: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'Made (UUIDv7) when absent; then a repeated request is another event.',
      }),
    ),
    source: Type.Optional(Type.String({ ...uri, description: 'The tenant’s when absent.' })),
    ...optional,
  },
  {
    title: 'PlainEvent',
    description:
      'An event of which the rest is filled in. With a specversion it is a CloudEvent, and has to be a whole one.',
    ...extensions,
  },
)

const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` })

const EXAMPLE = { type: 'com.example.order.placed', subject: 'order-42', data: { total: 99.5 } }
const CLOUD_EXAMPLE = { specversion: '1.0', id: '42-1', source: '/shop', ...EXAMPLE }

/** Every status with the problems that have it. */
function problemResponses(): Record<string, unknown> {
  const kinds = Map.groupBy(Object.keys(PROBLEMS) as ProblemKind[], (kind) => PROBLEMS[kind].status)
  kinds.delete(405)
  return Object.fromEntries(
    [...kinds].map(([status, names]) => [
      String(status),
      {
        description: names.map((kind) => `${PROBLEMS[kind].title} (\`${problemType(kind)}\`).`).join(' '),
        ...(status === 429 || status === 503
          ? { headers: { 'Retry-After': { description: 'Seconds to wait.', schema: { type: 'integer' } } } }
          : {}),
        content: { 'application/problem+json': { schema: ref('Problem') } },
      },
    ]),
  )
}

function eventsPath(config: ProducerConfig, operationId: string, stream?: string): Record<string, unknown> {
  const binaryHeaders = (['specversion', 'id', 'source', 'type', 'subject', 'time'] as const).map((name) => ({
    name: `ce-${name}`,
    in: 'header',
    required: false,
    description: `Binary mode: the attribute ${name}, percent-encoded. So are all others; the body is then the data, of any media type.`,
    schema: { type: 'string' },
  }))
  const parameters =
    stream === undefined
      ? [
          {
            name: 'stream',
            in: 'path',
            required: true,
            description: 'One of the tenant’s streams.',
            schema: { type: 'string', pattern: NAME_PATTERN },
          },
        ]
      : []
  return {
    ...(parameters.length > 0 ? { parameters } : {}),
    post: {
      operationId,
      summary: `Store events${stream === undefined ? '' : ` in the stream "${stream}"`}`,
      description: `Answers when Kafka has the events. Bodies may be compressed (Content-Encoding: gzip, zstd) and take up to ${config.MAX_BODY_BYTES} bytes decompressed and ${config.MAX_BATCH_EVENTS} events; NDJSON streams have no end. An event may take ${config.MAX_EVENT_BYTES} bytes as a record.`,
      parameters: [
        ...binaryHeaders,
        {
          name: 'X-Request-Id',
          in: 'header',
          required: false,
          description:
            'Returned, and in the service’s log. Made when absent. Not returned by a service that refuses everybody.',
          schema: { type: 'string', maxLength: 128 },
        },
        {
          name: 'traceparent',
          in: 'header',
          required: false,
          description: 'W3C Trace Context; goes on with the events.',
          schema: { type: 'string' },
        },
      ],
      requestBody: {
        required: true,
        content: {
          'application/json': {
            schema: {
              oneOf: [
                ref('PlainEvent'),
                { type: 'array', items: ref('PlainEvent'), maxItems: config.MAX_BATCH_EVENTS },
              ],
            },
            examples: {
              one: { value: EXAMPLE },
              several: { value: [EXAMPLE, { type: 'com.example.order.paid', subject: 'order-42' }] },
            },
          },
          'application/cloudevents+json': { schema: ref('CloudEvent'), example: CLOUD_EXAMPLE },
          'application/cloudevents-batch+json': {
            schema: { type: 'array', items: ref('CloudEvent'), maxItems: config.MAX_BATCH_EVENTS },
            example: [CLOUD_EXAMPLE],
          },
          'application/x-ndjson': {
            schema: { type: 'string', description: 'A PlainEvent or CloudEvent a line.' },
            example: `${JSON.stringify(EXAMPLE)}\n`,
          },
        },
      },
      responses: {
        '200': {
          description:
            'NDJSON only: a line of answer for each line, in order, as it is stored, and a summary at the end.',
          content: { 'application/x-ndjson': { schema: ref('AnswerLine') } },
        },
        '202': {
          description: 'Every event is stored: all in-sync replicas have it.',
          headers: {
            'X-Request-Id': { schema: { type: 'string' } },
            RateLimit: { description: 'Where the tenant has a quota: what is left of it.', schema: { type: 'string' } },
            'RateLimit-Policy': { description: 'Where the tenant has a quota.', schema: { type: 'string' } },
          },
          content: { 'application/json': { schema: ref('Receipts') } },
        },
        ...problemResponses(),
      },
    },
    options: {
      operationId: `${operationId}Handshake`,
      summary: 'The validation handshake of CloudEvents webhooks',
      security: [],
      parameters: [
        {
          name: 'WebHook-Request-Origin',
          in: 'header',
          required: false,
          description: 'The sender’s DNS name.',
          schema: { type: 'string' },
        },
        {
          name: 'WebHook-Request-Rate',
          in: 'header',
          required: false,
          description: 'Requests per minute asked for.',
          schema: { type: 'string' },
        },
      ],
      responses: {
        '200': {
          description: 'With WebHook-Allowed-Origin: deliveries are welcome.',
          headers: {
            Allow: { schema: { type: 'string' } },
            'WebHook-Allowed-Origin': { schema: { type: 'string' } },
            'WebHook-Allowed-Rate': { description: 'Requests per minute, or *.', schema: { type: 'string' } },
          },
        },
        '401': {
          description: PROBLEMS.unauthenticated.title,
          content: { 'application/problem+json': { schema: ref('Problem') } },
        },
        '403': {
          description: PROBLEMS.forbidden.title,
          content: { 'application/problem+json': { schema: ref('Problem') } },
        },
        '404': {
          description: PROBLEMS['unknown-stream'].title,
          content: { 'application/problem+json': { schema: ref('Problem') } },
        },
      },
    },
  }
}

const SCHEMAS: Record<string, TSchema> = {
  PlainEvent,
  CloudEvent,
  Receipts,
  Receipt,
  EventOutcome,
  Problem: ProblemDocument,
  AnswerLine,
}

export function openApi(config: ProducerConfig): Record<string, unknown> {
  return {
    openapi: '3.1.0',
    info: {
      title: 'KafkaTrace',
      version: 'v1',
      summary: 'Events in over HTTP, stored in Kafka before the answer.',
      description:
        'Send CloudEvents or plain JSON. 202 means stored, on all in-sync replicas. After a 503 or a broken connection send the same ids again: they take effect once.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: config.AUTH === 'on' ? [{ bearer: [] }, { key: [] }, { query: [] }] : [],
    paths: {
      '/v1/events': eventsPath(config, 'postEvents', DEFAULT_STREAM),
      '/v1/streams/{stream}/events': eventsPath(config, 'postStreamEvents'),
    },
    components: {
      schemas: SCHEMAS,
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'Authorization: Bearer <key>' },
        key: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
        query: {
          type: 'apiKey',
          in: 'query',
          name: 'access_token',
          description: 'For senders of webhooks that can set no header; URLs are easily logged.',
        },
      },
    },
  }
}
