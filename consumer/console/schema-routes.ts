import { Type } from '@sinclair/typebox'
import { ProblemError } from '../../shared/http/problem.ts'
import { type Call, commonOf, json, type Route, type RouteDeps, route, TENANT, whole } from './route.ts'
import { KnownSchemas, SchemaDocument, StreamSchemas, schemasOf } from './schemas.ts'

/** The schemas of a stream's types: which there are, who sends events of which version, and one in full. */

const DEFAULT_RECORDS = 10_000
const MAX_RECORDS = 1_000_000

export function schemaRoutes(deps: RouteDeps): Route[] {
  const { readers } = deps
  const { streamIn, reading } = commonOf(deps)

  const knownOf = ({ tenant, path, streams }: Pick<Call, 'tenant' | 'path' | 'streams'>): KnownSchemas =>
    new KnownSchemas({
      store: deps.schemas,
      template: deps.config.SCHEMA_SUBJECT,
      tenant,
      stream: path['stream'] ?? '',
      streams,
    })

  return [
    route({
      method: 'get',
      path: '/v1/streams/{stream}/schemas',
      name: 'listSchemas',
      role: 'read',
      summary: 'The schemas of the stream’s types, and who sends events of which version',
      description: 'Events are counted by the header kt-schema, which says what the producer checked them by.',
      query: Type.Object({
        most: whole(1, MAX_RECORDS, 'As many of the newest records are counted.', DEFAULT_RECORDS),
        ...TENANT,
      }),
      answers: { 200: { description: 'The types.', schema: StreamSchemas } },
      run: async (call) => {
        const stream = await streamIn(call)
        return json(
          await reading(
            call,
            (reader, budget) => schemasOf(stream, knownOf(call), reader, budget, readers),
            call.query.most,
          ),
        )
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/schemas/{type}/{version}',
      name: 'getSchema',
      role: 'read',
      summary: 'One version of a type’s schema',
      query: Type.Object(TENANT),
      answers: { 200: { description: 'The schema.', schema: SchemaDocument } },
      run: async (call) => {
        const { type = '', version = '' } = call.path
        const known = knownOf(call)
        const subject = known.subjectOf(type)
        const found = known.find(type)
        const one = typeof found === 'object' ? found.versions.get(Number(version)) : undefined
        if (one !== undefined && /^[1-9]\d{0,9}$/.test(version))
          return json({ type, subject, version: one.version, draft: one.schema.draft, document: one.schema.document })
        const { known: which, detail } = known.state
        // What is not read yet may be there.
        if (found === 'unknown')
          throw new ProblemError({
            kind: 'schema-unavailable',
            detail: `Whether ${subject} has a version ${version} cannot be told now. ${detail ?? ''}`.trim(),
            retryAfterSeconds: 5,
          })
        const latest = found === undefined ? '' : ` The latest is ${found.latest.version}.`
        throw new ProblemError({
          kind: 'schema-not-found',
          detail: `No version ${version} of ${subject} is known here.${latest}${which === 'all' ? '' : ` ${detail ?? ''}`}`,
        })
      },
    }),
  ]
}
