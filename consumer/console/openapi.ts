import type { TSchema } from '@sinclair/typebox'
import { Type } from '@sinclair/typebox'
import { NAME_PATTERN } from '../../shared/events/topics.ts'
import { EventFault, PROBLEM_MEMBERS, PROBLEMS, type ProblemKind, problemType } from '../../shared/http/problem.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import { MAX_BODY_BYTES } from './parameters.ts'
import type { Route } from './route.ts'

/** The OpenAPI 3.1 description of the console, from the table of its routes. */

/** The problems that the console answers with. */
const KINDS = [
  'malformed',
  'invalid-parameters',
  'unauthenticated',
  'forbidden',
  'not-found',
  'unknown-stream',
  'unknown-tenant',
  'event-not-found',
  'letter-not-found',
  'job-not-found',
  'schema-not-found',
  'method-not-allowed',
  'request-timeout',
  'conflict',
  'unknown-position',
  'body-too-large',
  'event-too-large',
  'too-deep',
  'unsupported-media-type',
  'invalid-body',
  'invalid-edit',
  'too-many-failures',
  'internal',
  'overloaded',
  'draining',
  'kafka-unavailable',
  'producer-unavailable',
  'schema-unavailable',
  'unverifiable',
] as const satisfies readonly ProblemKind[]

const ProblemSchema = Type.Object(
  {
    ...PROBLEM_MEMBERS,
    errors: Type.Optional(
      Type.Array(EventFault, { description: 'What is wrong with which parameter or member of the body.' }),
    ),
    outcome: Type.Optional(
      oneOf(['not stored', 'unknown'], {
        description:
          'With 503 for an act: "not stored" when it is certain that it had no effect. Doing the same again is right in both cases.',
      }),
    ),
    complete: Type.Optional(Type.Boolean({ description: 'With event-not-found: whether everything was searched.' })),
    searched: Type.Optional(Type.Array(Type.Unknown(), { description: 'With event-not-found: what was searched.' })),
    resume: Type.Optional(Type.String({ description: 'With unknown-position: the position of now.' })),
    login: Type.Optional(Type.String({ description: 'With unauthenticated: where people log in with a browser.' })),
  },
  { title: 'Problem', description: 'An RFC 9457 problem document.' },
)

const PATH_PARAMETERS: Readonly<Record<string, { description: string; schema: object }>> = {
  stream: { description: 'One of the tenant’s streams.', schema: { type: 'string', pattern: NAME_PATTERN } },
  id: { description: 'The event’s id, percent-encoded.', schema: { type: 'string' } },
  partition: { description: 'Of .dlq.', schema: { type: 'integer', minimum: 0 } },
  offset: { description: 'Of .dlq.', schema: { type: 'integer', minimum: 0 } },
  job: { description: 'The job’s id.', schema: { type: 'string' } },
  type: { description: 'The event’s type, percent-encoded.', schema: { type: 'string' } },
  version: { description: 'Of the type’s schema.', schema: { type: 'integer', minimum: 1 } },
}

const KINDS_BY_STATUS = Map.groupBy(KINDS, (kind) => PROBLEMS[kind].status)
// A documented path allows the documented methods.
KINDS_BY_STATUS.delete(405)

export function openApi(routes: readonly Route[], isAuthOn: boolean): Record<string, unknown> {
  const schemas = new Map<string, unknown>()
  const paths: Record<string, Record<string, unknown>> = {}
  for (const route of routes) {
    paths[route.path] = { ...paths[route.path], [route.method]: operationOf(route, schemas) }
  }
  schemas.set('Problem', withReferences(ProblemSchema, schemas, true))
  return {
    openapi: '3.1.0',
    info: {
      title: 'KafkaTrace console',
      version: 'v1',
      summary: 'What became of every event, and what to do about it.',
      description:
        'Finds events and their outcomes in the log, follows outcomes as they are committed, and sends dead letters through their streams once more. Everything is read from Kafka, and every act is kept there.',
      contact: { name: 'The operators of this service' },
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/', description: 'The service that this description comes from.' }],
    tags: [
      { name: 'read', description: 'Needs a key with the role `read`.' },
      { name: 'operate', description: 'Needs a key with the role `operate`.' },
    ],
    security: isAuthOn ? [{ bearer: [] }, { key: [] }] : [],
    paths,
    components: {
      schemas: Object.fromEntries([...schemas].sort(([a], [b]) => a.localeCompare(b))),
      responses: Object.fromEntries(
        [...KINDS_BY_STATUS].map(([status, kinds]) => [
          `Problem${status}`,
          {
            description: kinds.map((kind) => `${PROBLEMS[kind].title} (\`${problemType(kind)}\`).`).join(' '),
            ...(status === 429 || status === 503
              ? { headers: { 'Retry-After': { description: 'Seconds to wait.', schema: { type: 'integer' } } } }
              : {}),
            content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
          },
        ]),
      ),
      ...(isAuthOn
        ? {
            securitySchemes: {
              bearer: {
                type: 'http',
                scheme: 'bearer',
                description: 'Authorization: Bearer <key>, or with AUTH=jwt a token.',
              },
              key: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
            },
          }
        : {}),
    },
  }
}

function operationOf(route: Route, schemas: Map<string, unknown>): Record<string, unknown> {
  const inPath = [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => ({
    name,
    in: 'path',
    required: true,
    ...PATH_PARAMETERS[name],
  }))
  const inQuery = Object.entries(route.query.properties).map(([name, property]: [string, TSchema]) => {
    const { description, ...schema } = property
    const required = route.query.required?.includes(name) === true && schema['default'] === undefined
    return { name, in: 'query', required, description, schema }
  })
  const statuses = [...KINDS_BY_STATUS.keys()].filter(
    (status) => route.body !== undefined || ![408, 413, 415, 422].includes(status),
  )
  return {
    operationId: route.name,
    ...(route.role === 'any' ? {} : { tags: [route.role] }),
    summary: route.summary,
    ...(route.description === undefined ? {} : { description: route.description }),
    parameters: [...inPath, ...inQuery],
    ...(route.body === undefined
      ? {}
      : {
          requestBody: {
            description: `At most ${MAX_BODY_BYTES} bytes.`,
            required: (route.body['required'] as string[] | undefined)?.length !== undefined,
            content: {
              'application/json': {
                schema: withReferences(route.body, schemas, false),
                example: (route.body['examples'] as unknown[])[0],
              },
            },
          },
        }),
    responses: {
      ...Object.fromEntries(
        Object.entries(route.answers).map(
          ([status, { description, schema, contentType = 'application/json', lines }]) => [
            status,
            {
              description,
              content: {
                [contentType]: { schema: withReferences(schema, schemas, false) },
                ...(lines === undefined
                  ? {}
                  : { 'application/x-ndjson': { schema: withReferences(lines, schemas, false) } }),
              },
            },
          ],
        ),
      ),
      ...Object.fromEntries(
        statuses.map((status) => [String(status), { $ref: `#/components/responses/Problem${status}` }]),
      ),
    },
  }
}

/** A schema with a title becomes a component, so that generated clients have one type for it. */
function withReferences(value: unknown, schemas: Map<string, unknown>, top: boolean): unknown {
  if (Array.isArray(value)) return value.map((one) => withReferences(one, schemas, false))
  if (typeof value !== 'object' || value === null) return value
  const { title } = value as { title?: unknown }
  const whole = (): unknown =>
    Object.fromEntries(Object.entries(value).map(([name, one]) => [name, withReferences(one, schemas, false)]))
  if (top || typeof title !== 'string') return whole()
  if (!schemas.has(title)) {
    schemas.set(title, undefined)
    schemas.set(title, whole())
  }
  return { $ref: `#/components/schemas/${title}` }
}
