import { defineKind, Secrets, timeOf } from './kind.ts'
import { isSigned, timely, unsigned, wrong } from './signature.ts'

/** `t=1492774577,v1=HEX,v0=HEX`. */
const SIGNATURES = /^\w+=[^\s=,]+(?:,\w+=[^\s=,]+)*$/

/**
 * Stripe: snapshot events and thin events, of one's own account and of connected ones. An event's id is the same in every attempt; the time of a signature is
 * the attempt's.
 * Sources: docs.stripe.com, "Receive Stripe events in your webhook endpoint", "The Event object" and "The Event object" (v2). Stripe says that it waits for an
 * answer, but not how long.
 */
export const stripe = defineKind({
  name: 'stripe',
  timeoutMs: 10_000,
  options: { secrets: Secrets },
  verify(webhook, { secrets }) {
    const header = webhook.header('stripe-signature')
    if (header === undefined) return unsigned('Stripe-Signature is missing')
    if (!SIGNATURES.test(header)) return wrong('Stripe-Signature is no list of signatures')
    const items = header.split(',')
    // While a secret is rolled, there is a v1 of each. Other schemes, such as the v0 of test events, do not count.
    const valuesOf = (name: string): string[] =>
      items.flatMap((item) => (item.startsWith(`${name}=`) ? [item.slice(name.length + 1)] : []))
    const [time, ...more] = valuesOf('t')
    if (time === undefined || more.length > 0) return wrong('Stripe-Signature does not have one time')
    const parts = [`${time}.`, webhook.body]
    return isSigned(valuesOf('v1'), { algorithm: 'sha256', encoding: 'hex', secrets, parts })
      ? timely(time, webhook.receivedAtMs)
      : wrong('Stripe-Signature has no v1 that fits one of the secrets')
  },
  identify({ json }) {
    const type = json.text('/type')
    // A thin event has its context instead.
    const account = json.text('/account') ?? json.text('/context')
    const created = json.text('/created')
    return {
      id: json.text('/id'),
      type: type === undefined ? undefined : `com.stripe.${type}`,
      source: account === undefined ? 'https://api.stripe.com' : `https://api.stripe.com/v1/accounts/${account}`,
      subject: json.text('/data/object/id') ?? json.text('/related_object/id'),
      // Seconds in a snapshot event, RFC 3339 in a thin one.
      time: timeOf(created) ?? created,
    }
  },
})
