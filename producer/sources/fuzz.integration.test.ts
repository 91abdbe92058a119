import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { EXAMPLES } from '../testing/examples.ts'
import { gateway } from '../testing/gateway.ts'

/** A valid webhook of each kind, changed in any way: no answer is a 5xx, and nothing that is not signed is stored. */

/** Senders that have a token and sign nothing: another body with the token is theirs, too. */
const TOKENS = new Set(['alertmanager', 'aws-eventbridge', 'cdevents', 'gitlab', 'otel-logs'])

const it = gateway(Object.fromEntries(Object.entries(EXAMPLES).map(([name, { declaration }]) => [name, declaration])))
const EXAMPLE = fc.constantFrom(...Object.keys(EXAMPLES))

/** A place in a text, as a share of its length. */
const place = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

type Change =
  | { kind: 'byte'; at: number; to: number }
  | { kind: 'cut'; at: number }
  | { kind: 'append'; bytes: Uint8Array }
  | { kind: 'replace'; bytes: Uint8Array }
  | { kind: 'header'; which: number; value: string | undefined }

const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ kind: fc.constant('byte' as const), at: place, to: fc.integer({ min: 0, max: 255 }) }),
  fc.record({ kind: fc.constant('cut' as const), at: place }),
  fc.record({ kind: fc.constant('append' as const), bytes: fc.uint8Array({ minLength: 1, maxLength: 20 }) }),
  fc.record({ kind: fc.constant('replace' as const), bytes: fc.uint8Array({ maxLength: 60 }) }),
  fc.record({
    kind: fc.constant('header' as const),
    which: place,
    value: fc.option(
      fc.string({ maxLength: 60 }).map((text) => text.replace(/[^\x21-\x7e]/g, '')),
      { nil: undefined },
    ),
  }),
)

/** What is signed of a body. Of a form, its fields: "a=1&" says what "a=1" does. */
const saidIn = (name: string, body: Buffer): string =>
  name === 'twilio' ? new URLSearchParams(body.toString('utf8')).toString() : body.toString('latin1')

function changed(name: string, change: Change): { body: Buffer; headers: Record<string, string>; isOther: boolean } {
  const { body: text, headers: all } = EXAMPLES[name]?.request(it.clock.nowMs) ?? { body: '', headers: {} }
  const body = Buffer.from(text)
  const headers = { ...all }
  const at = 'at' in change ? Math.floor(change.at * body.length) : 0
  const other = (bytes: Buffer) => ({ body: bytes, headers, isOther: saidIn(name, bytes) !== saidIn(name, body) })
  switch (change.kind) {
    case 'byte':
      return other(Buffer.concat([body.subarray(0, at), Buffer.from([change.to]), body.subarray(at + 1)]))
    case 'cut':
      return other(body.subarray(0, at))
    case 'append':
      return other(Buffer.concat([body, change.bytes]))
    case 'replace':
      return other(Buffer.from(change.bytes))
    case 'header': {
      const header = Object.keys(headers)[Math.floor(change.which * Object.keys(headers).length)] ?? ''
      if (change.value === undefined) delete headers[header]
      else headers[header] = change.value
      return { body, headers, isOther: false }
    }
  }
}

test('whatever is changed of a webhook', async () => {
  await fc.assert(
    // Many at a time, since one that is refused is answered later.
    fc.asyncProperty(fc.array(fc.tuple(EXAMPLE, change), { minLength: 100, maxLength: 100 }), async (requests) => {
      const before = it.events().length
      const answers = await Promise.all(
        requests.map(async ([name, change]) => {
          const { body, headers, isOther } = changed(name, change)
          const { status } = await it.send(name, body, headers)
          expect(status, `${name} ${JSON.stringify(change)}`).toBeLessThan(500)
          if (isOther && !TOKENS.has(name)) expect(status, `${name} ${JSON.stringify(change)}`).toBe(401)
          return { name, status }
        }),
      )
      const taken = answers.filter(({ status }) => status < 300)
      const stored = it.events().length - before
      // A request with logs may have several.
      const most = taken.reduce((sum, { name }) => sum + (name === 'otel-logs' ? 4 : 1), 0)
      expect(stored).toBeLessThanOrEqual(most)
      if (taken.length === 0) expect(stored).toBe(0)
    }),
    { numRuns: 20 },
  )
}, 60_000)

test('each example is taken as it is', async () => {
  for (const [name, { request, type }] of Object.entries(EXAMPLES)) {
    const { body, headers } = request(it.clock.nowMs)
    const { status } = await it.send(name, body, headers)
    expect({ name, isTaken: status < 300 }).toEqual({ name, isTaken: true })
    expect(it.events().map((event) => event.type)).toContain(type)
  }
})
