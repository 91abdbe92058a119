import { describe, expect, test } from 'bun:test'
import { createHmac } from 'node:crypto'
import { gateway, SECRETS, testSigned } from '../testing/gateway.ts'
import { segment } from './segment.ts'

const [SECRET] = SECRETS
const sign = (body: string, secret: string) => ({
  'x-signature': createHmac('sha1', secret).update(body).digest('hex'),
})
/** The example of segment.com/docs, "Spec: Common fields", shortened. */
const TRACK =
  '{"anonymousId":"507f191e810c19729de860ea","context":{"ip":"8.8.8.8"},"event":"Report Submitted","messageId":"022bb90c-bbac-11e4-8dfc-aa07a5b093db","receivedAt":"2015-12-10T04:08:31.909Z","sentAt":"2015-12-10T04:08:31.581Z","timestamp":"2015-12-10T04:08:31.905Z","type":"track","userId":"97980cfea0067","version":2}'

const source = () => gateway({ seg: { kind: 'segment', secrets: [SECRET] } }, { kinds: [segment] })

/** Sends a body, signed by what is signed of it. */
async function sent(body: string, signed = body) {
  const { send, events, logged } = source()
  const { status } = await send('seg', body, sign(signed, SECRET))
  return { status, events: events(), logged }
}

describe('Segment', () => {
  testSigned({
    declare: (secrets) => ({ kind: 'segment', secrets }),
    body: TRACK,
    sign,
    isTimed: false,
  })

  test('the event is named by its fields, and its body is kept byte for byte', async () => {
    const { status, events } = await sent(TRACK)
    expect(status).toBe(202)
    expect(events).toEqual([
      {
        id: '022bb90c-bbac-11e4-8dfc-aa07a5b093db',
        type: 'com.segment.track',
        source: 'urn:kafkatrace:source:seg',
        subject: '97980cfea0067',
        time: '2015-12-10T04:08:31.905Z',
        key: '97980cfea0067',
        datacontenttype: 'application/json',
        data: TRACK,
        form: undefined,
      },
    ])
  })

  test.each([
    ['identify', '"userId":"019mr8mf4r","traits":{"email":"achilles@segment.com"}', '019mr8mf4r'],
    ['page', '"userId":null,"anonymousId":"507f191e","properties":{"path":"/pricing"}', '507f191e'],
    ['screen', '"anonymousId":"507f191e","name":"Main Screen"', '507f191e'],
    ['group', '"userId":12345678901234567890,"groupId":"0e8c78ea9d97a7b8185e8632"', '12345678901234567890'],
    ['alias', '"previousId":"507f191e","userId":"019mr8mf4r"', '019mr8mf4r'],
    ['track', '"event":"Purchased an Item"', undefined],
  ])('%s', async (type, fields, subject) => {
    const { status, events } = await sent(`{"messageId":"ajs-84d32beb","type":"${type}",${fields}}`)
    expect([status, events[0]?.id, events[0]?.type, events[0]?.subject]).toEqual([
      202,
      'ajs-84d32beb',
      `com.segment.${type}`,
      subject,
    ])
  })

  // segment.com/docs, "Webhooks Destination", "Delete".
  test('a request to delete a user, which has no messageId', async () => {
    const body = '{"type":"delete","userId":"019mr8mf4r","timestamp":"2012-12-02T00:30:08.276Z"}'
    const { status, events } = await sent(body)
    expect(status).toBe(202)
    expect(events).toMatchObject([
      { id: 'delete 019mr8mf4r 2012-12-02T00:30:08.276Z', type: 'com.segment.delete', subject: '019mr8mf4r' },
    ])
    for (const part of ['"userId":"019mr8mf4r",', ',"timestamp":"2012-12-02T00:30:08.276Z"'])
      expect(await sent(body.replace(part, ''))).toMatchObject({ status: 422, events: [] })
  })

  test('a batch, of which only the first event is signed, is refused, and the log says why', async () => {
    for (const batch of [`[${TRACK}]`, `[${TRACK},${TRACK.replace('022b', '133c')}]`]) {
      const { status, events, logged } = await sent(batch, TRACK)
      expect([status, events]).toEqual([401, []])
      expect(logged.find((line) => line['status'] === 401)).toMatchObject({
        reason: 'wrong',
        because: expect.stringContaining('batching has to be off'),
      })
    }
    expect(await sent(`[${TRACK}]`)).toMatchObject({ status: 422, events: [] })
  })

  const MESSAGE_ID = '"022bb90c-bbac-11e4-8dfc-aa07a5b093db"'
  test.each([
    ['nothing', 400, ''],
    ['no JSON', 400, '{"type":"track"'],
    ['too deep', 413, '{"a":'.repeat(500)],
    ['no object', 422, 'null'],
    ['a string', 422, '"track"'],
    ['a messageId that is no string', 422, TRACK.replace(MESSAGE_ID, '{}')],
    ['an empty messageId', 422, TRACK.replace(MESSAGE_ID, '""')],
    ['a huge messageId', 422, TRACK.replace(MESSAGE_ID, `"${'a'.repeat(20_000)}"`)],
    ['a list of types', 422, TRACK.replace('"track"', '["track"]')],
    ['a type that is a number', 422, TRACK.replace('"track"', '7')],
    ['a type with a zero byte', 422, TRACK.replace('"track"', '"track\\u0000"')],
  ])('%s is refused', async (_, status, body) => {
    expect(await sent(body)).toMatchObject({ status, events: [] })
  })

  test('two signatures, and an empty one, are refused', async () => {
    const { send, events } = source()
    const signature = sign(TRACK, SECRET)['x-signature']
    for (const given of [`${signature}, ${signature}`, ''])
      expect((await send('seg', TRACK, { 'x-signature': given })).status).toBe(401)
    expect(events()).toEqual([])
  })
})
