import { beforeAll, describe, expect, test } from 'bun:test'
import { sign } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../../shared/dev/run.ts'
import { createAuthority } from '../../shared/testing/certificates.ts'
import { type Declaration, type GatewayOptions, gateway } from '../testing/gateway.ts'
import { createAwsSns, type Fetch } from './aws-sns.ts'

// Amazon publishes no message with a signature that can be verified. Here, a certificate of openssl's and a function in place of `fetch` stand in for it.

const TOPIC = 'arn:aws:sns:us-west-2:123456789012:MyTopic'
const HOST = 'https://sns.us-west-2.amazonaws.com'
const CERTIFICATE_URL = `${HOST}/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem`
const SUBSCRIBE_URL = `${HOST}/?Action=ConfirmSubscription&TopicArn=${TOPIC}&Token=2336412f37fb687f5d51e6e241d09c805a5a57b30d712f79`

let key = ''
let certificate = ''
let ofAnotherKind = ''

beforeAll(async () => {
  const directory = mkdtempSync(join(tmpdir(), 'kafkatrace-sns-'))
  const [keyFile, file] = [join(directory, 'key.pem'), join(directory, 'certificate.pem')]
  const subject = ['-subj', '/CN=sns.amazonaws.com', '-days', '365']
  const made = await run([
    'openssl',
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    ...subject,
    '-keyout',
    keyFile,
    '-out',
    file,
  ])
  expect(made).toMatchObject({ exitCode: 0 })
  key = await Bun.file(keyFile).text()
  certificate = await Bun.file(file).text()
  ofAnotherKind = await Bun.file((await createAuthority()).certificateFile).text()
})

type Message = Record<string, unknown>

// "Make sure your endpoint is ready to process Amazon SNS messages", with other signatures.
const NOTIFICATION: Message = {
  Type: 'Notification',
  MessageId: '22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324',
  TopicArn: TOPIC,
  Subject: 'My First Message',
  Message: 'Hello world!',
  Timestamp: '2012-05-02T00:54:06.655Z',
  SignatureVersion: '1',
  SigningCertURL: CERTIFICATE_URL,
  UnsubscribeURL: `${HOST}/?Action=Unsubscribe&SubscriptionArn=${TOPIC}:c9135db0-26c4-47ec-8998-413945fb5a96`,
}
const SUBSCRIPTION: Message = {
  Type: 'SubscriptionConfirmation',
  MessageId: '165545c9-2a5c-472c-8df2-7ff2be2b3b1b',
  Token: '2336412f37fb687f5d51e6e241d09c805a5a57b30d712f79',
  TopicArn: TOPIC,
  Message: `You have chosen to subscribe to the topic ${TOPIC}.\nTo confirm the subscription, visit the SubscribeURL included in this message.`,
  SubscribeURL: SUBSCRIBE_URL,
  Timestamp: '2012-04-26T20:45:04.751Z',
  SignatureVersion: '1',
  SigningCertURL: CERTIFICATE_URL,
}
const END: Message = { ...SUBSCRIPTION, Type: 'UnsubscribeConfirmation' }

const signatureOf = (text: string, version: unknown): string =>
  sign(version === '2' ? 'RSA-SHA256' : 'RSA-SHA1', Buffer.from(text), key).toString('base64')

/** In the order of their names, as SNS documents it. */
function signed(message: Message): string {
  const names =
    message['Type'] === 'Notification'
      ? ['Message', 'MessageId', 'Subject', 'Timestamp', 'TopicArn', 'Type']
      : ['Message', 'MessageId', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type']
  const text = names.filter((name) => name in message).map((name) => `${name}\n${message[name]}\n`)
  return JSON.stringify({ ...message, Signature: signatureOf(text.join(''), message['SignatureVersion']) }, null, 2)
}

const headersOf = (type: string) => ({
  'x-amz-sns-message-type': type,
  'content-type': 'text/plain; charset=UTF-8',
  'user-agent': 'Amazon Simple Notification Service Agent',
})

/** A source, and what it asks Amazon for. */
function source(
  more: Partial<Declaration> = {},
  answer: Fetch = async () => new Response(certificate),
  options: GatewayOptions = {},
) {
  const asked: string[] = []
  const fetcher: Fetch = (url, init) => {
    asked.push(url)
    expect(init.redirect).toBe('error')
    expect(init.signal).toBeInstanceOf(AbortSignal)
    return answer(url, init)
  }
  const declaration = { kind: 'aws-sns', topics: [TOPIC], ...more } as Declaration
  const it = gateway({ it: declaration }, { kinds: [createAwsSns(fetcher)], ...options })
  const send = (message: Message, body = signed(message)) => it.send('it', body, headersOf(String(message['Type'])))
  const refusal = () => it.logged.find((line) => line['status'] === 401)
  return { ...it, raw: it.send, send, asked, refusal }
}

describe('Amazon SNS', () => {
  test.each(['1', '2'])('a notification with a signature of version %s is an event', async (version) => {
    const { send, events, asked } = source()
    const message = { ...NOTIFICATION, SignatureVersion: version }
    const response = await send(message)
    expect([response.status, asked]).toEqual([200, [CERTIFICATE_URL]])
    expect(events()).toEqual([
      {
        id: '22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324',
        type: 'com.amazonaws.sns.notification',
        source: TOPIC,
        subject: TOPIC,
        key: TOPIC,
        time: '2012-05-02T00:54:06.655Z',
        datacontenttype: 'application/json',
        data: signed(message),
        form: undefined,
      },
    ])
  })

  // "Verifying the signatures of Amazon SNS messages" has these strings to sign, without a key.
  test('the documented string to sign of a notification is what is verified', async () => {
    const topic = 'arn:aws:sns:us-east-2:123456789012:s4-MySNSTopic-1G1WEFCOXTC0P'
    const text = `Message\nMy Test Message\nMessageId\n4d4dc071-ddbf-465d-bba8-08f81c89da64\nSubject\nMy subject\nTimestamp\n2019-01-31T04:37:04.321Z\nTopicArn\n${topic}\nType\nNotification\n`
    const { send, events } = source({ topics: [TOPIC, topic] })
    const message = {
      Type: 'Notification',
      MessageId: '4d4dc071-ddbf-465d-bba8-08f81c89da64',
      TopicArn: topic,
      Subject: 'My subject',
      Message: 'My Test Message',
      Timestamp: '2019-01-31T04:37:04.321Z',
      SignatureVersion: '1',
      Signature: signatureOf(text, '1'),
      SigningCertURL: 'https://sns.us-east-2.amazonaws.com/SimpleNotificationService-0000000000000000000000.pem',
    }
    expect((await send(message, JSON.stringify(message))).status).toBe(200)
    expect(events()).toMatchObject([{ id: message.MessageId, source: topic }])
  })

  test.each([
    ['no subject', { Subject: undefined }],
    ['other scripts', { Message: 'Ａ Ｍｅｓｓａｇｅ 💌', Subject: 'ü' }],
    ['line breaks and quotes', { Message: 'a\n"b"\\\r\t{"c":12345678901234567890}' }],
    ['an alarm of CloudWatch', { Message: '{"AlarmName":"cpu","NewStateValue":"ALARM","Threshold":80.0}' }],
    ['attributes', { MessageAttributes: { kind: { Type: 'String', Value: 'order' } } }],
  ])('a notification with %s is taken', async (_, change) => {
    const { send, events } = source()
    const message = JSON.parse(JSON.stringify({ ...NOTIFICATION, ...change })) as Message
    expect((await send(message)).status).toBe(200)
    expect(events()).toMatchObject([{ data: signed(message) }])
  })

  test('in China, the host is another one', async () => {
    const { send, asked } = source({ topics: ['arn:aws-cn:sns:cn-northwest-1:123456789012:MyTopic'] })
    const url = 'https://sns.cn-northwest-1.amazonaws.com.cn/SimpleNotificationService-abc.pem'
    const message = { ...NOTIFICATION, TopicArn: 'arn:aws-cn:sns:cn-northwest-1:123456789012:MyTopic' }
    expect((await send({ ...message, SigningCertURL: url })).status).toBe(200)
    expect((await send({ ...message, SigningCertURL: url.replace('.cn/', '/') })).status).toBe(401)
    expect(asked).toEqual([url])
  })

  test('sent again, it is the same event; the certificate is asked for once, also by messages at the same time', async () => {
    const { send, events, asked } = source()
    await Promise.all([send(NOTIFICATION), send(NOTIFICATION), send(NOTIFICATION)])
    await send(NOTIFICATION)
    expect([events().length, new Set(events().map(({ source, id }) => `${source} ${id}`)).size]).toEqual([4, 1])
    expect(asked).toHaveLength(1)
  })

  test('only as many certificates are kept, and asked for at a time, as Amazon may have', async () => {
    let waiting: (() => void)[] = []
    let isSlow = false
    const { send, asked } = source({}, async () => {
      if (isSlow) await new Promise<void>((resolve) => waiting.push(resolve))
      return new Response(certificate)
    })
    const at = (name: number | string) => ({
      ...NOTIFICATION,
      SigningCertURL: `${HOST}/SimpleNotificationService-${name}.pem`,
    })
    for (let name = 0; name <= 16; name++) expect((await send(at(name))).status).toBe(200)
    await send(at(16))
    expect(asked).toHaveLength(17)
    await send(at(0))
    expect(asked).toHaveLength(18)
    isSlow = true
    const slow = Array.from({ length: 16 }, (_, index) => send(at(`slow${index}`)))
    while (waiting.length < 16) await new Promise(setImmediate)
    expect((await send(at('more'))).status).toBe(503)
    for (const go of waiting) go()
    waiting = []
    expect((await Promise.all(slow)).map(({ status }) => status)).toEqual(Array(16).fill(200))
  })

  test.each<[string, Fetch]>([
    ['Amazon cannot be reached', () => Promise.reject(new Error('refused'))],
    ['Amazon has trouble', async () => new Response('<Error/>', { status: 503 })],
    ['it redirects', async () => Promise.reject(new Error('UnexpectedRedirect'))],
    ['it is no certificate', async () => new Response('hello')],
    ['it is empty', async () => new Response(null)],
    ['its key is not of RSA', async () => new Response(ofAnotherKind)],
  ])('when %s, SNS has to try again, and may succeed', async (_, failing) => {
    let answer = failing
    const { send, events, asked } = source({}, (url, init) => answer(url, init))
    expect([(await send(NOTIFICATION)).status, events()]).toEqual([503, []])
    answer = async () => new Response(certificate)
    expect([(await send(NOTIFICATION)).status, events().length, asked.length]).toEqual([200, 1, 2])
  })

  test('a certificate that Amazon does not have is refused, and not asked for again at once', async () => {
    const { send, events, asked } = source({}, async () => new Response('<Error/>', { status: 403 }))
    for (let times = 0; times < 3; times++) expect((await send(NOTIFICATION)).status).toBe(401)
    expect([events(), asked.length]).toEqual([[], 1])
  })

  test('of an endless answer, only a part is read', async () => {
    let chunks = 0
    const pull = (to: ReadableStreamDefaultController) => {
      chunks++
      to.enqueue(new Uint8Array(4_096))
    }
    const { send } = source({}, async () => new Response(new ReadableStream({ pull })))
    expect((await send(NOTIFICATION)).status).toBe(503)
    expect(chunks).toBeLessThan(8)
  })

  test('a certificate counts only while it is valid', async () => {
    for (const days of [-2, 366]) {
      const { send, clock, refusal } = source()
      clock.nowMs += days * 86_400_000
      expect((await send(NOTIFICATION)).status).toBe(401)
      expect(refusal()).toMatchObject({
        reason: 'wrong',
        because: 'the certificate at SigningCertURL is not valid now',
      })
    }
  })

  test.each<[string, (message: Message) => Message]>([
    ['Message', (message) => ({ ...message, Message: 'Hello moon!' })],
    ['MessageId', (message) => ({ ...message, MessageId: '1' })],
    ['Subject', (message) => ({ ...message, Subject: 'x' })],
    ['Subject left out', ({ Subject: _, ...message }) => message],
    ['Timestamp', (message) => ({ ...message, Timestamp: '2026-05-02T00:54:06.655Z' })],
    ['version', (message) => ({ ...message, SignatureVersion: '2' })],
    ['Signature cut off', (message) => ({ ...message, Signature: String(message['Signature']).slice(0, -8) })],
    ['no signature in Signature', (message) => ({ ...message, Signature: 'EXAMPLE' })],
    ['another signature', (message) => ({ ...message, Signature: signatureOf('another', '1') })],
  ])('what was changed after it was signed is refused: %s', async (_, change) => {
    const { send, events, refusal, logged } = source()
    const message = change(JSON.parse(signed(NOTIFICATION)) as Message)
    expect([(await send(message, JSON.stringify(message))).status, events()]).toEqual([401, []])
    expect(refusal()).toMatchObject({
      reason: 'wrong',
      because: 'Signature does not fit the certificate at SigningCertURL',
    })
    expect(logged.filter((line) => Number(line['level']) >= 50)).toEqual([])
  })

  test.each<[string, Message, string]>([
    ['another topic, though Amazon has signed for it', { ...NOTIFICATION, TopicArn: `${TOPIC}2` }, 'wrong'],
    ['no topic', { ...NOTIFICATION, TopicArn: undefined }, 'wrong'],
    ['a topic of another type', { ...NOTIFICATION, TopicArn: [TOPIC] }, 'wrong'],
    ['no Message', { ...NOTIFICATION, Message: undefined }, 'wrong'],
    ['no MessageId', { ...NOTIFICATION, MessageId: undefined }, 'wrong'],
    ['no Timestamp', { ...NOTIFICATION, Timestamp: null }, 'wrong'],
    ['no version', { ...NOTIFICATION, SignatureVersion: undefined }, 'wrong'],
    ['version 3', { ...NOTIFICATION, SignatureVersion: '3' }, 'wrong'],
    ['no Token', { ...SUBSCRIPTION, Token: undefined }, 'wrong'],
    ['an unknown type', { ...NOTIFICATION, Type: 'constructor' }, 'wrong'],
  ])('%s is refused before anything is asked for', async (_, message, reason) => {
    const { send, events, asked, refusal } = source({ confirm: true })
    expect([(await send(message)).status, events(), asked]).toEqual([401, [], []])
    expect(refusal()).toMatchObject({ reason })
  })

  test('without a signature, or as raw messages, nothing is taken', async () => {
    const { raw, events, asked, logged } = source()
    const body = signed(NOTIFICATION)
    const { Signature: _, ...unsigned } = JSON.parse(body) as Message
    const cases: [string, Record<string, string>, string][] = [
      [JSON.stringify(unsigned), headersOf('Notification'), 'unsigned'],
      [body, {}, 'unsigned'],
      [body, headersOf(''), 'unsigned'],
      [body, { ...headersOf('Notification'), 'x-amz-sns-rawdelivery': 'true' }, 'unsigned'],
      [body, headersOf('Notification, Notification'), 'wrong'],
      [body, headersOf('SubscriptionConfirmation'), 'wrong'],
      ['hello', headersOf('Notification'), 'wrong'],
      ['', headersOf('Notification'), 'wrong'],
      [`[${body}]`, headersOf('Notification'), 'wrong'],
      [body.replace('{', '{"MessageId":"1",'), headersOf('Notification'), 'wrong'],
      ['['.repeat(10_000), headersOf('Notification'), 'wrong'],
    ]
    for (const [text, headers, reason] of cases) {
      logged.length = 0
      expect((await raw('it', text, headers)).status).toBe(401)
      expect(logged.find((line) => line['status'] === 401)).toMatchObject({ reason })
      expect(logged.filter((line) => Number(line['level']) >= 50)).toEqual([])
    }
    expect([events(), asked]).toEqual([[], []])
  })

  const PATH = 'SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem'
  test.each<unknown>([
    `http://sns.us-west-2.amazonaws.com/${PATH}`,
    `https://sns.us-west-2.amazonaws.com.evil.com/${PATH}`,
    `https://sns.us-west-2.amazonaws.com@evil.com/${PATH}`,
    `https://sns.us-west-2.amazonaws.com\\@evil.com/${PATH}`,
    `https://sns.us-west-2.amazonaws.com/@evil.com/${PATH}`,
    `https://sns.us-west-2.amazonaws.com\n.evil.com/${PATH}`,
    `https://user:password@sns.us-west-2.amazonaws.com/${PATH}`,
    `https://sns.us-west-2.amazonaws.com:8443/${PATH}`,
    `https://sns.us-west-2.amazonaws.com:443/${PATH}`,
    `https://sns.us-west-2.amazonaws.com./${PATH}`,
    `https://sns.us-west-2.amazonaws.com.cn/${PATH}`,
    `https://sns.eu-west-1.amazonaws.com/${PATH}`,
    // A bucket of S3 that is called "sns", which anybody may have.
    `https://sns.s3-us-west-2.amazonaws.com/${PATH}`,
    `https://evil.com/sns.us-west-2.amazonaws.com/${PATH}`,
    `https://evil.com#https://sns.us-west-2.amazonaws.com/${PATH}`,
    `https://127.0.0.1/${PATH}`,
    `https://[::1]/${PATH}`,
    `https://169.254.169.254/${PATH}`,
    `https://2130706433/${PATH}`,
    `https://ｓns.us-west-2.amazonaws.com/${PATH}`,
    `//sns.us-west-2.amazonaws.com/${PATH}`,
    ` https://sns.us-west-2.amazonaws.com/${PATH}`,
    `https://sns.us-west-2.amazonaws.com/../${PATH}`,
    `https://sns.us-west-2.amazonaws.com/${PATH}?x=1`,
    `https://sns.us-west-2.amazonaws.com/${PATH}#x`,
    'https://sns.us-west-2.amazonaws.com/?Action=Publish',
    'https://sns.us-west-2.amazonaws.com/',
    'file:///etc/passwd',
    '',
    5,
    null,
    {},
  ])('nothing is asked for at %p', async (url) => {
    const { send, events, asked } = source({ confirm: true })
    expect((await send({ ...NOTIFICATION, SigningCertURL: url })).status).toBe(401)
    expect((await send({ ...SUBSCRIPTION, SubscribeURL: url })).status).toBe(401)
    expect([events(), asked]).toEqual([[], []])
  })

  test('a subscription is not confirmed unless the declaration says so; the log says how to do it', async () => {
    const { send, events, asked, logged } = source()
    expect([(await send(SUBSCRIPTION)).status, events(), asked]).toEqual([200, [], [CERTIFICATE_URL]])
    expect(logged.find(({ msg }) => String(msg).includes(SUBSCRIBE_URL))).toMatchObject({ level: 30, source: 'it' })
  })

  test('with confirm, a subscription is confirmed', async () => {
    const { send, events, asked, logged } = source({ confirm: true })
    expect([(await send(SUBSCRIPTION)).status, events()]).toEqual([200, []])
    expect(asked).toEqual([CERTIFICATE_URL, SUBSCRIBE_URL])
    expect(logged.some(({ msg }) => String(msg).includes('is confirmed'))).toBe(true)
  })

  test.each<[string, Fetch]>([
    ['is not reached', () => Promise.reject(new Error('refused'))],
    ['refuses', async () => new Response('<ErrorResponse/>', { status: 400 })],
  ])('when Amazon %s, it has to ask again', async (_, confirmed) => {
    const { send } = source({ confirm: true }, async (url, init) =>
      url === SUBSCRIBE_URL ? confirmed(url, init) : new Response(certificate),
    )
    expect((await send(SUBSCRIPTION)).status).toBe(503)
  })

  test('a forged confirmation is not confirmed, and neither is the end of a subscription', async () => {
    const { send, raw, events, asked, logged } = source({ confirm: true })
    const body = signed(SUBSCRIPTION).replace('You have chosen', 'You had chosen')
    expect((await send(SUBSCRIPTION, body)).status).toBe(401)
    expect((await raw('it', signed(END), headersOf('SubscriptionConfirmation'))).status).toBe(401)
    expect((await send(END)).status).toBe(200)
    expect([events(), asked]).toEqual([[], [CERTIFICATE_URL]])
    expect(logged.some(({ msg }) => String(msg).includes('has ended'))).toBe(true)
  })

  // SNS takes 4xx for an answer.
  test('over quota it is told to try again', async () => {
    const quota = { eventsPerSecond: 0.001, burstEvents: 1 }
    const { send, events } = source({}, undefined, { tenant: { quota } })
    expect((await send(NOTIFICATION)).status).toBe(200)
    const { status, headers } = await send({ ...NOTIFICATION, MessageId: '2' })
    expect([status, headers.has('retry-after'), events().length]).toEqual([503, true, 1])
  })

  test.each([
    [[]],
    [['*']],
    [['arn:aws:sqs:us-west-2:123456789012:MyTopic']],
    [['arn:aws:sns:s3-us-west-2:123456789012:MyTopic']],
    [['arn:aws:sns:us-west-2.evil.com/:123456789012:MyTopic']],
    [[`${TOPIC}:c9135db0-26c4-47ec-8998-413945fb5a96`]],
  ])('%p are no topics for a declaration', (topics) => expect(() => source({ topics })).toThrow('/sources/it/topics'))
})
