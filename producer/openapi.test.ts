import { describe, expect, test } from 'bun:test'
import { FormatRegistry } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import fc from 'fast-check'
import { isAbsoluteUri, isTimestamp, isUriReference } from '../shared/events/event.ts'
import { PROBLEMS } from '../shared/http/problem.ts'
import { loadProducerConfig } from './config.ts'
import { headOf } from './head.ts'
import { CloudEvent, Extension, openApi, PlainEvent } from './openapi.ts'
import { parseBody } from './parse.ts'
import { KINDS } from './problem.ts'

const config = loadProducerConfig({ NODE_ENV: 'development', AUTH: 'off', KAFKA_BROKERS: 'b:1' })
const document = openApi(config) as {
  openapi: string
  paths: Record<string, Record<string, { responses: Record<string, unknown>; operationId: string }>>
  components: Record<string, Record<string, Record<string, unknown>>>
}
const defaults = { source: '/s', id: () => 'made', time: () => '2026-01-01T00:00:00Z' }

FormatRegistry.Set('uri', isAbsoluteUri)
FormatRegistry.Set('uri-reference', isUriReference)
FormatRegistry.Set('date-time', isTimestamp)

describe('the OpenAPI description', () => {
  test('has every status that there is a problem for', () => {
    for (const [path, item] of Object.entries(document.paths))
      for (const { status } of KINDS.map((kind) => PROBLEMS[kind]))
        if (status !== 405 && !(status === 429 && path.startsWith('/v1/sources/')))
          expect(item['post']?.responses[String(status)]).toBeDefined()
  })

  test('forbids no request id: instead of one that cannot be used another is made', () => {
    expect(document.components['parameters']?.['X-Request-Id']?.['schema']).toEqual({ type: 'string' })
  })

  test('refers only to what it holds, and repeats no operationId', () => {
    const references = [...JSON.stringify(document).matchAll(/"#\/components\/(\w+)\/([\w-]+)"/g)]
    expect(new Set(references.map(([, kind]) => kind))).toEqual(new Set(['schemas', 'parameters', 'responses']))
    for (const [reference, kind = '', name = ''] of references)
      expect(document.components[kind]?.[name], reference).toBeDefined()
    const ids = Object.values(document.paths).flatMap((item) =>
      Object.values(item).flatMap((one) => one.operationId ?? []),
    )
    expect(new Set(ids).size).toBe(ids.length)
  })

  test('has one place for each schema that has a name', () => {
    const { schemas = {} } = document.components
    for (const [name, schema] of Object.entries(schemas)) {
      expect(schema['title']).toBe(name)
      const inside = JSON.stringify(Object.values(schema).filter((one) => typeof one !== 'string'))
      for (const other of Object.keys(schemas)) expect(inside, name).not.toContain(`"title":"${other}"`)
    }
  })

  test('says one media type for each status', () => {
    for (const item of Object.values(document.paths))
      for (const { responses = {} } of Object.values(item))
        for (const [status, response] of Object.entries(responses) as [string, { $ref?: string; content?: object }][]) {
          const named = document.components['responses']?.[response.$ref?.split('/').at(-1) ?? '']
          const types = Object.keys((named ?? response)['content'] ?? {})
          expect(types.length, status).toBeLessThan(2)
          if (Number(status) >= 400) expect(types).toEqual(['application/problem+json'])
        }
  })

  test('describes every event that is taken: none is taken that its schema refuses', () => {
    const value = fc.oneof(
      fc.string(),
      fc.integer({ min: -5, max: 5 }),
      fc.boolean(),
      fc.constant(null),
      fc.constant({}),
      fc.constant('2026-01-01T00:00:00Z'),
    )
    const member = fc.constantFrom(
      'specversion',
      'id',
      'source',
      'type',
      'subject',
      'time',
      'dataschema',
      'datacontenttype',
      'data_base64',
      'ext',
      'Ext',
      'a_b',
    )
    let taken = 0
    fc.assert(
      fc.property(fc.dictionary(member, value, { maxKeys: 4 }), fc.boolean(), (extra, plain) => {
        const event = plain
          ? { type: 't', ...extra }
          : { specversion: '1.0', id: '1', source: '/s', type: 't', ...extra }
        const parsed = parseBody(
          plain ? 'plain' : 'structured',
          headOf(new Headers()),
          Buffer.from(JSON.stringify(event)),
          defaults,
          { MAX_NESTING_DEPTH: 9, MAX_BATCH_EVENTS: 9, CLOUDEVENTS_STRICT: 'off' },
        )
        if (!parsed.ok || !parsed.results.every((one) => one.ok)) return
        taken++
        expect([...Value.Errors(plain ? PlainEvent : CloudEvent, event)].map((one) => one.path + one.message)).toEqual(
          [],
        )
        // TypeBox does not read "dependentSchemas".
        for (const [name, one] of Object.entries(event))
          if (name !== 'data') expect(Value.Check(Extension, one), name).toBe(true)
      }),
      { numRuns: 2_000 },
    )
    expect(taken).toBeGreaterThan(100)
  })
})
