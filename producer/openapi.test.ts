import { describe, expect, test } from 'bun:test'
import { FormatRegistry, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import fc from 'fast-check'
import { isAbsoluteUri, isTimestamp, isUriReference } from '../shared/event.ts'
import { loadProducerConfig } from './config.ts'
import { docsPage } from './docs.ts'
import { CloudEvent, openApi, PlainEvent } from './openapi.ts'
import { parseBody } from './parse.ts'
import { PROBLEMS } from './problem.ts'

const config = loadProducerConfig({ NODE_ENV: 'development', AUTH: 'off', KAFKA_BROKERS: 'b:1' })
const document = openApi(config) as {
  openapi: string
  paths: Record<string, Record<string, { responses: Record<string, unknown>; operationId: string }>>
  components: { schemas: Record<string, TSchema> }
}
const defaults = { source: '/s', id: () => 'made', time: () => '2026-01-01T00:00:00Z' }

FormatRegistry.Set('uri', isAbsoluteUri)
FormatRegistry.Set('uri-reference', isUriReference)
FormatRegistry.Set('date-time', isTimestamp)

describe('the OpenAPI description', () => {
  test('has every status that there is a problem for', () => {
    for (const item of Object.values(document.paths))
      for (const { status } of Object.values(PROBLEMS))
        if (status !== 405) expect(item['post']?.responses[String(status)]).toBeDefined()
  })

  test('refers only to what it holds, and repeats no operationId', () => {
    const names = [...JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(
      (match) => match[1] ?? '',
    )
    expect(names.length).toBeGreaterThan(10)
    for (const name of names) expect(document.components.schemas[name]).toBeDefined()
    const ids = Object.values(document.paths).flatMap((item) =>
      Object.values(item).flatMap((one) => one.operationId ?? []),
    )
    expect(new Set(ids).size).toBe(ids.length)
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
          new Headers(),
          Buffer.from(JSON.stringify(event)),
          defaults,
          { maxDepth: 9, maxEvents: 9, strict: false },
        )
        if (!parsed.ok || !parsed.results.every((one) => one.ok)) return
        taken++
        // null means absent (JSON event format, section 2.2), which a schema says worse than this sentence.
        const present = Object.fromEntries(Object.entries(event).filter(([, one]) => one !== null))
        expect(
          [...Value.Errors(plain ? PlainEvent : CloudEvent, present)].map((one) => one.path + one.message),
        ).toEqual([])
      }),
      { numRuns: 2_000 },
    )
    expect(taken).toBeGreaterThan(100)
  })
})

describe('the page', () => {
  test('loads nothing from elsewhere and allows nothing but itself', () => {
    const { html, headers } = docsPage()
    expect(html).not.toMatch(/(src|href)="(https?:)?\/\//)
    const policy = headers['content-security-policy'] ?? ''
    expect(policy).toContain("default-src 'none'")
    for (const [tag, directive] of [
      ['style', 'style-src'],
      ['script', 'script-src'],
    ] as const) {
      const text = new RegExp(`<${tag}[^>]*>([\\s\\S]*?)</${tag}>`).exec(html)?.[1] ?? ''
      expect(policy).toContain(`${directive} 'sha256-${new Bun.CryptoHasher('sha256').update(text).digest('base64')}'`)
    }
  })
})
