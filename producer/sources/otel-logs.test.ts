import { describe, expect, test } from 'bun:test'
import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { gateway, SECRETS, testSigned } from '../testing/gateway.ts'

const [SECRET] = SECRETS
const DECLARED = { logs: { kind: 'otel-logs', secrets: [SECRET] } }
const HEADERS = { authorization: `Bearer ${SECRET}`, 'content-type': 'application/x-ndjson' }
const hash = (line: string): string => createHash('sha256').update(line).digest('hex')

/** A line of the Collector's exporter `file`, with the members of the example in opentelemetry-proto, examples/logs.json. */
const otlp = (service: string, nanoseconds: string, body: string): string =>
  JSON.stringify({
    resourceLogs: [
      {
        resource: {
          attributes: [
            { key: 'host.name', value: { stringValue: 'node-1' } },
            { key: 'service.name', value: { stringValue: service } },
          ],
        },
        scopeLogs: [
          {
            scope: { name: 'my.library', version: '1.0.0' },
            logRecords: [
              {
                timeUnixNano: nanoseconds,
                observedTimeUnixNano: '1544712660300000001',
                severityNumber: 10,
                severityText: 'Information',
                traceId: '5B8EFFF798038103D269B633813FC60C',
                spanId: 'EEE19B7EC3C1B174',
                body: { stringValue: body },
                attributes: [{ key: 'int.attribute', value: { intValue: '9223372036854775807' } }],
              },
            ],
          },
        ],
      },
    ],
  })

const ONE = otlp('shop', '1544712660300000001', 'one')
const TWO = otlp('cart', '1544712660300000002', 'two')

async function only(line: string) {
  const { send, events } = gateway(DECLARED)
  expect((await send('logs', line, HEADERS)).status).toBe(200)
  const [event] = events()
  expect(events().length).toBe(1)
  return event
}

describe('OpenTelemetry logs', () => {
  testSigned({
    declare: (secrets) => ({ kind: 'otel-logs', secrets }),
    body: `${ONE}\n${TWO}\n`,
    headers: { 'content-type': 'application/x-ndjson' },
    sign: (_, secret) => ({ authorization: `Bearer ${secret}` }),
    isTimed: false,
    coversBody: false,
    status: 200,
  })

  test('a line is an event, byte for byte, and its time has all nine digits', async () => {
    const { send, events } = gateway(DECLARED)
    const response = await send('logs', `${ONE}\n${TWO}`, HEADERS)
    // OTLP Specification, "OTLP/HTTP Response", "Full Success".
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([
      200,
      'application/json',
      '{}',
    ])
    const event = (line: string, service: string, time: string) => ({
      id: hash(line),
      type: 'io.opentelemetry.logs',
      source: 'urn:kafkatrace:source:logs',
      subject: service,
      key: service,
      time,
      datacontenttype: 'application/json',
      data: line,
      form: undefined,
    })
    expect(events().sort((a, b) => (a.subject === 'shop' ? -1 : b.subject === 'shop' ? 1 : 0))).toEqual([
      event(ONE, 'shop', '2018-12-13T14:51:00.300000001Z'),
      event(TWO, 'cart', '2018-12-13T14:51:00.300000002Z'),
    ])
  })

  test('a request that comes again has the same ids, and lines that are the same in it have different ones', async () => {
    const { send, events } = gateway(DECLARED)
    const body = [ONE, TWO, ONE, ONE].join('\n')
    await send('logs', body, HEADERS)
    const first = events().map(({ id }) => id)
    expect(first.toSorted()).toEqual([hash(ONE), `${hash(ONE)}-2`, `${hash(ONE)}-3`, hash(TWO)].toSorted())
    await send('logs', body, HEADERS)
    expect(
      events()
        .map(({ id }) => id)
        .toSorted(),
    ).toEqual([...first, ...first].toSorted())
  })

  test('a record a line, as others write it', async () => {
    const record = '"body":{"stringValue":"x"}'
    const attributes = '[{"key":"service.name","value":{"stringValue":"shop"}}]'
    for (const [line, time, subject] of [
      [
        `{"timeUnixNano":"1544712660300000001","resource":{"attributes":${attributes}},${record}}`,
        '2018-12-13T14:51:00.300000001Z',
        'shop',
      ],
      [
        `{"timeUnixNano":1544712660300000001,"attributes":${attributes},${record}}`,
        '2018-12-13T14:51:00.300000001Z',
        'shop',
      ],
      [
        '{"timeUnixNano":"0","observedTimeUnixNano":"18446744073709551615","attributes":{"service.name":"shop"}}',
        '2554-07-21T23:34:33.709551615Z',
        'shop',
      ],
      // Vector's source `opentelemetry`, in its sink `http`.
      [
        '{"message":"x","timestamp":"2026-03-01T10:00:00.123456789Z","resources":{"service.name":"shop"}}',
        '2026-03-01T10:00:00.123456789Z',
        'shop',
      ],
      // Fluent Bit, json_date_format iso8601, and double, which is its default.
      ['{"date":"2026-03-01T10:00:00.000681Z","log":"x"}', '2026-03-01T10:00:00.000681Z', undefined],
      ['{"date":1772359200.000681,"log":"x"}', undefined, undefined],
      ['{"timeUnixNano":"1e18","resource":{"service.name":"shop"}}', undefined, 'shop'],
      ['{"timeUnixNano":"-1544712660300000001","resource":{"attributes":{"service.name":7}}}', undefined, '7'],
      ['{"resourceLogs":[{}]}', undefined, undefined],
      ['{"resourceLogs":7,"attributes":[7,{"key":"service.name","value":7}]}', undefined, undefined],
    ] as const) {
      const event = await only(line)
      expect([event?.time, event?.subject, event?.data]).toEqual([time, subject, line])
    }
  })

  test('one object, as the exporter otlphttp sends it, compressed or not', async () => {
    const { send, events } = gateway(DECLARED)
    const headers = { ...HEADERS, 'content-type': 'application/json' }
    expect((await send('logs', gzipSync(ONE), { ...headers, 'content-encoding': 'gzip' })).status).toBe(200)
    expect((await send('logs', ONE, headers)).status).toBe(200)
    expect(events().map(({ data }) => data)).toEqual([ONE, ONE])
  })

  test('blank lines are none, and a carriage return belongs to its line', async () => {
    const { send, events } = gateway(DECLARED)
    expect((await send('logs', `\n\n \t\r\n${ONE}\r\n\n`, HEADERS)).status).toBe(200)
    expect(events().map(({ data }) => data)).toEqual([`${ONE}\r`])
    for (const body of ['', '\n', ' \n \r\n']) expect((await send('logs', body, HEADERS)).status).toBe(200)
    expect(events().length).toBe(1)
  })

  test('as many lines as MAX_BATCH_EVENTS are taken; with one more, nothing is', async () => {
    const { send, events } = gateway(DECLARED, { config: { MAX_BATCH_EVENTS: 3 } })
    expect((await send('logs', `${ONE}\n`.repeat(3), HEADERS)).status).toBe(200)
    for (const lines of [4, 5_000]) {
      const response = await send('logs', '{}\n'.repeat(lines), HEADERS)
      expect([response.status, await response.json()]).toMatchObject([
        413,
        { type: 'urn:kafkatrace:problem:too-many-events', detail: expect.stringContaining('MAX_BATCH_EVENTS=3') },
      ])
    }
    expect(events().length).toBe(3)
  })

  test('one line that is no object, and nothing is taken', async () => {
    const { send, events } = gateway(DECLARED)
    for (const line of [
      'x',
      '7',
      'null',
      '"{}"',
      '[]',
      '{',
      '{}{}',
      '{"a":1',
      '{"a":1,"a":2}',
      '\ufeff{}',
      `${'{"a":'.repeat(100)}1${'}'.repeat(100)}`,
    ]) {
      const { status } = await send('logs', `${ONE}\n${line}\n${TWO}`, HEADERS)
      expect(status).toBeGreaterThanOrEqual(400)
      expect(status).toBeLessThan(500)
    }
    expect((await send('logs', JSON.stringify(JSON.parse(ONE), null, 2), HEADERS)).status).toBe(400)
    expect((await send('logs', new Uint8Array([0x0a, 0x7b, 0xff, 0x7d]), HEADERS)).status).toBe(400)
    expect((await send('logs', `{"a":"${'x'.repeat(1_000_000)}"}`, HEADERS)).status).toBe(413)
    expect(events()).toEqual([])
  })

  test('a form is refused', async () => {
    const { send, events } = gateway(DECLARED)
    const form = { ...HEADERS, 'content-type': 'application/x-www-form-urlencoded' }
    expect([(await send('logs', 'line=1', form)).status, events()]).toEqual([415, []])
  })
})
