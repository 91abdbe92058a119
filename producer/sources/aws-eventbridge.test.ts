import { describe, expect, test } from 'bun:test'
import { type Declaration, gateway, SECRETS, testSigned } from '../testing/gateway.ts'

const [SECRET] = SECRETS

// EventBridge User Guide, "Event structure reference".
const EC2 = `{
  "version": "0",
  "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
  "detail-type": "EC2 Instance State-change Notification",
  "source": "aws.ec2",
  "account": "111122223333",
  "time": "2017-12-22T18:43:48Z",
  "region": "us-west-1",
  "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
  "detail": { "instance-id": "i-1234567890abcdef0", "state": "terminated", "count": 9223372036854775807 }
}`

/** What EventBridge sends besides, says its User Guide. */
const HEADERS = {
  'content-type': 'application/json; charset=utf-8',
  'user-agent': 'Amazon/EventBridge/ApiDestinations',
  range: 'bytes=0-1048575',
  'accept-encoding': 'gzip,deflate',
}

const KEY = { ...HEADERS, 'x-api-key': SECRET }
const basic = (user: string, password: string) => ({
  authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
})
const source = (more: Partial<Declaration> = {}) =>
  gateway({ it: { kind: 'aws-eventbridge', secrets: [SECRET], ...more } as Declaration })

describe('Amazon EventBridge', () => {
  describe('with an API key', () =>
    testSigned({
      declare: (secrets) => ({ kind: 'aws-eventbridge', secrets }),
      headers: HEADERS,
      body: EC2,
      sign: (_, secret) => ({ 'x-api-key': secret }),
      isTimed: false,
      coversBody: false,
    }))

  describe('with an API key under another name', () =>
    testSigned({
      declare: (secrets) => ({ kind: 'aws-eventbridge', secrets, header: 'X-Our-Key' }),
      headers: HEADERS,
      body: EC2,
      sign: (_, secret) => ({ 'x-our-key': secret }),
      isTimed: false,
      coversBody: false,
    }))

  describe('with Basic', () =>
    testSigned({
      declare: (secrets) => ({ kind: 'aws-eventbridge', secrets }),
      headers: HEADERS,
      body: EC2,
      sign: (_, secret) => basic('kafkatrace', secret),
      isTimed: false,
      coversBody: false,
    }))

  test('the documented event keeps its id, source and time, and its bytes', async () => {
    const { send, events } = source()
    const response = await send('it', EC2, KEY)
    expect(response.status).toBe(202)
    expect(await response.json()).toMatchObject({ receipts: [{ id: '6a7e8feb-b491-4cf7-a9f1-bf3703467718' }] })
    expect(events()).toEqual([
      {
        id: '6a7e8feb-b491-4cf7-a9f1-bf3703467718',
        type: 'com.amazonaws.events.EC2 Instance State-change Notification',
        source: 'aws.ec2',
        subject: 'arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0',
        key: 'arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0',
        time: '2017-12-22T18:43:48Z',
        datacontenttype: 'application/json',
        data: EC2,
        form: undefined,
      },
    ])
  })

  test.each([
    [
      'an application, whose source is no URI and which names no resources',
      '{"version":"0","id":"17793124-05d4-b198-2fde-7ededc63b103","detail-type":"Order Placed","source":"our shop","account":"111122223333","time":"2021-11-12T00:00:00Z","region":"ca-central-1","resources":[],"detail":{"orderId":12345678901234567890}}',
      { type: 'com.amazonaws.events.Order Placed', source: 'urn:kafkatrace:source:it', key: null },
    ],
    [
      'S3',
      '{"version":"0","id":"17793124-05d4-b198-2fde-7ededc63b103","detail-type":"Object Created","source":"aws.s3","account":"111122223333","time":"2021-11-12T00:00:00Z","region":"ca-central-1","resources":["arn:aws:s3:::amzn-s3-demo-bucket1"],"detail":{"version":"0","bucket":{"name":"amzn-s3-demo-bucket1"},"object":{"key":"example-key","size":5}}}',
      { type: 'com.amazonaws.events.Object Created', source: 'aws.s3', key: 'arn:aws:s3:::amzn-s3-demo-bucket1' },
    ],
    [
      'a schedule',
      '{"version":"0","id":"53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa","detail-type":"Scheduled Event","source":"aws.events","account":"123456789012","time":"2015-10-08T16:53:06Z","region":"us-east-1","resources":["arn:aws:events:us-east-1:123456789012:rule/my-scheduled-rule"],"detail":{}}',
      { type: 'com.amazonaws.events.Scheduled Event', source: 'aws.events', time: '2015-10-08T16:53:06Z' },
    ],
  ])('an event of %s', async (_, body, expected) => {
    const { send, events } = source()
    expect((await send('it', body, KEY)).status).toBe(202)
    expect(events()).toMatchObject([{ ...expected, data: body }])
  })

  test('an id beyond 2^53 stays as it is written', async () => {
    const { send, events } = source()
    expect((await send('it', '{"id":12345678901234567890,"detail-type":"a","source":"b"}', KEY)).status).toBe(202)
    expect(events()).toMatchObject([{ id: '12345678901234567890' }])
  })

  test('a key that is empty, given twice or in two places is refused, and so is one under another name', async () => {
    const { send, events, logged } = source()
    const cases: [Record<string, string>, string][] = [
      [{ 'x-api-key': '' }, 'unsigned'],
      [{ 'x-our-key': SECRET }, 'unsigned'],
      [{ authorization: 'Basic' }, 'unsigned'],
      [basic('kafkatrace', ''), 'unsigned'],
      [{ 'x-api-key': `${SECRET}, ${SECRET}` }, 'wrong'],
      [{ 'x-api-key': SECRET, ...basic('kafkatrace', SECRET) }, 'wrong'],
      [basic(SECRET, 'kafkatrace'), 'wrong'],
      [{ 'x-api-key': 'a'.repeat(4_000) }, 'wrong'],
    ]
    for (const [headers, reason] of cases) {
      logged.length = 0
      expect((await send('it', EC2, { ...HEADERS, ...headers })).status).toBe(401)
      expect(logged.find((line) => line['status'] === 401)).toMatchObject({ reason })
    }
    expect(events()).toEqual([])
  })

  test.each([
    ['no JSON', 'hello'],
    ['nothing', ''],
    ['no id', '{"detail-type":"a","source":"b"}'],
    ['no detail-type, as an input transformer may leave it', '{"instance":"i-1","state":"terminated"}'],
    ['an id of another type', '{"id":{"a":1},"detail-type":"a"}'],
    ['an empty id', '{"id":"","detail-type":"a"}'],
    ['an array', '[{"id":"1","detail-type":"a"}]'],
    ['a member given twice', '{"id":"1","id":"2","detail-type":"a"}'],
  ])('a body with %s is refused, and is no failure', async (_, body) => {
    const { send, events, logged } = source()
    const { status } = await send('it', body, KEY)
    expect([status >= 400 && status < 500, events()]).toEqual([true, []])
    expect(logged.filter((line) => Number(line['level']) >= 50)).toEqual([])
  })

  test.each(['', 'x api', 'x-api-key\n', 'x:y'])('%p is no name of a header field', (header) =>
    expect(() => source({ header })).toThrow('/sources/it/header'),
  )
})
