import { verify as verifyBytes, X509Certificate } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import { messageOf } from '../../shared/service/thrown.ts'
import type { Fields } from './fields.ts'
import { defineKind } from './kind.ts'
import { OK, unsigned, wrong } from './signature.ts'

/** How Amazon is asked. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>

const TOPIC = /^arn:(aws|aws-cn|aws-us-gov):sns:([a-z]{2}(?:-[a-z]+){1,2}-\d{1,2}):\d{12}:[\w-]{1,256}$/

/** A certificate's place on its host, of which Amazon has some each year. */
const CERTIFICATE = /^SimpleNotificationService-[0-9A-Za-z]{1,64}\.pem$/
/** How long a certificate that Amazon does not have is not asked for again, ms, and how many of them are remembered. */
const ABSENT_MS = 60_000
const MAX_ABSENT = 1_000
const CONFIRMATION = /^\?Action=ConfirmSubscription&[\w%&=:.~-]+$/

const ALGORITHMS: ReadonlyMap<string | undefined, string> = new Map([
  ['1', 'RSA-SHA1'],
  ['2', 'RSA-SHA256'],
])

/** What is signed of each type of message, in order. */
const ABOUT_SUBSCRIPTION = ['Message', 'MessageId', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type']
const SIGNED: ReadonlyMap<string, readonly string[]> = new Map([
  ['Notification', ['Message', 'MessageId', 'Subject', 'Timestamp', 'TopicArn', 'Type']],
  ['SubscriptionConfirmation', ABOUT_SUBSCRIPTION],
  ['UnsubscribeConfirmation', ABOUT_SUBSCRIPTION],
])
const OPTIONAL = 'Subject'

const TYPE = 'x-amz-sns-message-type'

const MAX_CERTIFICATES = 16
const MAX_CERTIFICATE_BYTES = 16 * 1024
/** Less than a verdict may take. */
const CERTIFICATE_TIMEOUT_MS = 4_000
const CONFIRM_TIMEOUT_MS = 6_000

/**
 * Amazon SNS, without raw message delivery. `MessageId` is the same when a message is sent again. Amazon signs for whoever has a topic, so the declaration
 * says which topics count; only the host that Amazon has for a declared topic's region is ever asked for something.
 * Sources: SNS Developer Guide, "Verifying the signatures of Amazon SNS messages", "Parsing message formats" and "Make sure your endpoint is ready to process
 * Amazon SNS messages".
 */
export function createAwsSns(fetcher: Fetch) {
  const certificates = new Certificates(fetcher)
  return defineKind({
    name: 'aws-sns',
    timeoutMs: 15_000,
    options: {
      topics: Type.Array(Type.String({ pattern: TOPIC.source, description: 'the ARN of an SNS topic' }), {
        minItems: 1,
        uniqueItems: true,
      }),
      confirm: Type.Boolean({ default: false }),
    },
    async verify(webhook, { topics }) {
      if (webhook.header('x-amz-sns-rawdelivery') !== undefined)
        return unsigned('SNS signs nothing with raw message delivery, which the subscription has to have switched off')
      const type = webhook.header(TYPE)
      if (type === undefined) return unsigned(`${TYPE} is missing`)
      const names = SIGNED.get(type)
      const { json } = webhook
      if (names === undefined || json.text('/Type') !== type) return wrong(`${TYPE} is not the type of the message`)
      const topic = json.text('/TopicArn')
      if (topic === undefined || !topics.includes(topic)) return wrong('TopicArn is none of the topics')
      const signature = json.text('/Signature')
      if (signature === undefined) return unsigned('Signature is missing')
      const algorithm = ALGORITHMS.get(json.text('/SignatureVersion'))
      if (algorithm === undefined) return wrong('SignatureVersion is neither 1 nor 2')
      const root = rootOf(topic)
      const url = json.text('/SigningCertURL')
      if (!isUnder(root, url, CERTIFICATE)) return wrong(`SigningCertURL is no certificate of ${root}`)
      if (names === ABOUT_SUBSCRIPTION && !isUnder(root, json.text('/SubscribeURL'), CONFIRMATION))
        return wrong(`SubscribeURL is no confirmation of ${root}`)
      const signed = signedText(json, names)
      if (signed === undefined) return wrong('a member that SNS signs is missing')
      let certificate: X509Certificate | undefined
      try {
        certificate = await certificates.get(url)
      } catch (error) {
        return { ok: false, reason: 'unavailable', detail: `${url} is not to be had: ${messageOf(error)}` }
      }
      if (certificate === undefined) return wrong('Amazon has no certificate at SigningCertURL')
      if (!isValidAt(certificate, webhook.receivedAtMs))
        return wrong('the certificate at SigningCertURL is not valid now')
      const bytes = Buffer.from(signature, 'base64')
      return verifyBytes(algorithm, Buffer.from(signed, 'utf8'), certificate.publicKey, bytes)
        ? OK
        : wrong('Signature does not fit the certificate at SigningCertURL')
    },
    identify(webhook) {
      if (webhook.header(TYPE) !== 'Notification') return undefined
      const { json } = webhook
      const topic = json.text('/TopicArn')
      return {
        id: json.text('/MessageId'),
        type: 'com.amazonaws.sns.notification',
        source: topic,
        subject: topic,
        time: json.text('/Timestamp'),
        data: webhook.body,
      }
    },
    async respond(webhook, { confirm }) {
      const { json } = webhook
      const [type, topic, url] = [webhook.header(TYPE), json.text('/TopicArn'), json.text('/SubscribeURL') ?? '']
      if (type === 'UnsubscribeConfirmation') return { status: 200, note: `SNS has ended its subscription to ${topic}` }
      if (type !== 'SubscriptionConfirmation') return { status: 200 }
      if (!confirm) {
        const how = `open ${url} within some days, or declare "confirm": true and have SNS ask again`
        return { status: 200, note: `SNS asks whether it may send messages of ${topic}. To confirm it, ${how}.` }
      }
      const response = await fetcher(url, { redirect: 'error', signal: AbortSignal.timeout(CONFIRM_TIMEOUT_MS) })
      await response.body?.cancel()
      if (!response.ok) throw new Error(`SNS has answered the confirmation for ${topic} with ${response.status}`)
      return { status: 200, note: `the subscription to ${topic} is confirmed` }
    },
  })
}

export const awsSns = createAwsSns(fetch)

/** @param topic a declared one */
function rootOf(topic: string): string {
  const [, partition, region] = TOPIC.exec(topic) ?? []
  return `https://sns.${region}.amazonaws.com${partition === 'aws-cn' ? '.cn' : ''}/`
}

/** Compared as text: parsers of URLs differ in what they take for the host. */
const isUnder = (root: string, url: string | undefined, path: RegExp): url is string =>
  url?.startsWith(root) === true && path.test(url.slice(root.length))

function signedText(json: Fields, names: readonly string[]): string | undefined {
  let text = ''
  for (const name of names) {
    const value = json.text(`/${name}`)
    if (value !== undefined) text += `${name}\n${value}\n`
    else if (name !== OPTIONAL) return undefined
  }
  return text
}

function isValidAt({ validFrom, validTo }: X509Certificate, nowMs: number): boolean {
  return Date.parse(validFrom) <= nowMs && nowMs <= Date.parse(validTo)
}

/** Certificates by their URL. Those that could not be had are asked for again. */
class Certificates {
  readonly #fetch: Fetch
  readonly #known = new Map<string, X509Certificate>()
  readonly #asked = new Map<string, Promise<X509Certificate | undefined>>()
  /** Until when a certificate is taken for absent, in the order in which they were asked for. */
  readonly #absentUntilMs = new Map<string, number>()

  constructor(fetcher: Fetch) {
    this.#fetch = fetcher
  }

  /** @returns undefined when Amazon has none */
  async get(url: string): Promise<X509Certificate | undefined> {
    const known = this.#known.get(url)
    if (known !== undefined) return known
    if ((this.#absentUntilMs.get(url) ?? 0) > performance.now()) return undefined
    // Nothing is verified yet: anybody may name certificates.
    if (this.#asked.size >= MAX_CERTIFICATES && !this.#asked.has(url)) throw new Error('too many are asked for')
    return this.#asked.getOrInsertComputed(url, () => this.#ask(url).finally(() => this.#asked.delete(url)))
  }

  async #ask(url: string): Promise<X509Certificate | undefined> {
    const response = await this.#fetch(url, { redirect: 'error', signal: AbortSignal.timeout(CERTIFICATE_TIMEOUT_MS) })
    if (!response.ok) {
      await response.body?.cancel()
      if (response.status >= 500 || response.status === 429) throw new Error(`its answer is ${response.status}`)
      this.#absentUntilMs.delete(url)
      this.#absentUntilMs.set(url, performance.now() + ABSENT_MS)
      const [oldest] = this.#absentUntilMs.keys()
      if (oldest !== undefined && this.#absentUntilMs.size > MAX_ABSENT) this.#absentUntilMs.delete(oldest)
      return undefined
    }
    const certificate = new X509Certificate(await read(response))
    if (certificate.publicKey.asymmetricKeyType !== 'rsa') throw new Error('its key is not of RSA')
    const [oldest] = this.#known.keys()
    if (oldest !== undefined && this.#known.size >= MAX_CERTIFICATES) this.#known.delete(oldest)
    this.#known.set(url, certificate)
    return certificate
  }
}

async function read({ body }: Response): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body ?? []) {
    size += chunk.length
    if (size > MAX_CERTIFICATE_BYTES) throw new Error(`it is longer than ${MAX_CERTIFICATE_BYTES} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
