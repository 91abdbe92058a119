import { Type } from '@sinclair/typebox'
import type { Fields } from './fields.ts'
import { defineKind, type Identity, Secrets } from './kind.ts'
import { isSigned, OK, sha256, unsigned, wrong } from './signature.ts'
import type { Webhook } from './webhook.ts'

/**
 * Twilio: messaging, voice and other webhooks as forms, and Event Streams as JSON. The secrets are the account's auth tokens.
 * Sources: twilio.com/docs, "Secure webhooks", "Webhook connection overrides" and "Event Streams"; github.com/twilio/twilio-node, src/webhooks.
 */
export const twilio = defineKind({
  name: 'twilio',
  // Event Streams wait 5 s and try again; all others wait this long, and most never try again.
  timeoutMs: 15_000,
  options: {
    secrets: Secrets,
    /** The source's public URL, as it is typed at Twilio. What a request or a proxy says of it is not to be trusted: the signature has to fit some URL. */
    url: Type.String({ pattern: '^https?://', description: 'a URL that begins with https:// or http://' }),
  },
  verify(webhook, { secrets, url }) {
    const given = webhook.header('x-twilio-signature')
    if (given === undefined) return unsigned('X-Twilio-Signature is missing')
    if (webhook.url.includes('#')) return wrong('the URL of the request has a fragment, which no client sends')
    const query = QUERY.exec(webhook.url)?.[0] ?? ''
    const isHashed = BODY_HASH.test(query)
    const fields = isHashed ? '' : fieldsOf(webhook.form)
    if (fields === undefined)
      return unsigned(
        'it is no form of Twilio, and its URL does not end with bodySHA256, so that its body is not signed',
      )
    // In place of the hash that is given: then the signature covers the body.
    const called = calledUrl(url, isHashed ? query.replace(BODY_HASH, `$1${sha256(webhook.body)}`) : query)
    const isOurs = signedUrls(called).some((signed) =>
      isSigned([given], { algorithm: 'sha1', encoding: 'base64', secrets, parts: [signed, fields] }),
    )
    if (isOurs) return OK
    // Neither a user's password nor a token in the query.
    const shown = url.replace(/^(\w+:\/\/)(?:[^/?#]*@)?([^?#]*).*$/s, '$1$2')
    return wrong(`X-Twilio-Signature fits none of the secrets, or what Twilio has called is not ${shown}`)
  },
  identify(webhook) {
    const { json } = webhook
    const events = json.count('')
    if (events > 0) return Array.from({ length: events }, (_, index) => streamed(json, `/${index}`))
    const account = json.text('/AccountSid')
    return {
      id: idOf(webhook),
      type: `com.twilio.${typeOf(json) ?? 'webhook'}`,
      source: account === undefined ? undefined : `https://api.twilio.com/2010-04-01/Accounts/${account}`,
      subject: firstOf(json, SUBJECTS),
    }
  },
  respond: () => ({ status: 200, headers: { 'content-type': 'text/xml' }, body: '<Response/>' }),
})

const QUERY = /\?.*$/s

/** At the end of the query, where Twilio puts it: in between, it could be the text of a field of a form that Twilio has signed. */
const BODY_HASH = /([?&]bodySHA256=)[0-9a-f]{64}$/i

/** The declared URL with the request's query, which is the declared one's where a proxy has dropped it. */
const calledUrl = (url: string, query: string): string =>
  query === '' ? url : url.replace(/(?:\?[^#]*)?(#.*)?$/, (_, fragment?: string) => query + (fragment ?? ''))

/**
 * What Twilio may have signed of a URL: like its libraries, with and without the port, and with apostrophes, which the server has escaped; with and without the
 * connection overrides in the fragment.
 */
function signedUrls(url: string): string[] {
  const [, scheme, host = '', port, rest = '', fragment = ''] = URL_PARTS.exec(url) ?? []
  if (scheme === undefined) return []
  const hosts = [host, `${host}:${port ?? (scheme === 'https' ? 443 : 80)}`]
  const ends = new Set([rest, rest.replaceAll('%27', "'")].flatMap((end) => [end, end + fragment]))
  return hosts.flatMap((each) => [...ends].map((end) => `${scheme}://${each}${end}`))
}

/** Scheme, user and host, port, path and query, fragment. */
const URL_PARTS = /^(https?):\/\/((?:[^/?#@]*@)?(?:\[[^\]]*\]|[^/?#:]+))(?::(\d+))?([/?][^#]*)?(#.*)?$/

/** Names and values are signed without anything in between: with other names, text of a value could be moved into them. */
const FIELD = /^[A-Za-z][\w.[\]-]{0,99}$/

/** A form's fields as Twilio signs them; undefined without one. Of a field's values, its libraries take each once. */
function fieldsOf(form: Webhook['form']): string | undefined {
  const names = [...form.keys()].sort()
  if (names.length === 0 || !names.every((name) => FIELD.test(name))) return undefined
  return names.flatMap((name) => [...new Set(form.get(name))].sort().map((value) => name + value)).join('')
}

/** In each attempt the same. The signature covers the URL and the body, so that its hash is, too; the signature itself would let readers forge. */
function idOf(webhook: Webhook): string | undefined {
  const token = webhook.header('i-twilio-idempotency-token')
  if (token === undefined) return sha256(webhook.header('x-twilio-signature') ?? '')
  // One that was given twice has a comma.
  return /^[\w-]+$/.test(token) ? token : undefined
}

/** Twilio's webhooks have no type in common: the fields that name what has happened, and what of. */
function typeOf(json: Fields): string | undefined {
  const event = firstOf(json, ['/EventType', '/eventType', '/StatusCallbackEvent'])
  if (event !== undefined) return event
  for (const [pointer, noun] of STATUSES) {
    const status = json.text(pointer)
    if (status !== undefined) return `${noun}.${status}`
  }
  return undefined
}

const STATUSES = [
  ['/RecordingStatus', 'recording'],
  ['/TranscriptionStatus', 'transcription'],
  ['/MessageStatus', 'message'],
  ['/SmsStatus', 'message'],
  ['/CallStatus', 'call'],
] as const

const SUBJECTS = ['/ConferenceSid', '/RoomSid', '/ConversationSid', '/TaskSid', '/MessageSid', '/CallSid']

const firstOf = (json: Fields, pointers: readonly string[]): string | undefined =>
  pointers.map((pointer) => json.text(pointer)).find((text) => text !== undefined)

/** An event of Event Streams, which sends CloudEvents. */
const streamed = (json: Fields, at: string): Identity => ({
  id: json.text(`${at}/id`),
  type: json.text(`${at}/type`),
  source: json.text(`${at}/source`),
  time: json.text(`${at}/time`),
  data: json.json(`${at}/data`) ?? json.json(at),
})
