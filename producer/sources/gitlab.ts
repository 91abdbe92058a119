import { Type } from '@sinclair/typebox'
import { defineKind, type Verdict } from './kind.ts'
import { isSecret, isSigned, OK, timely, unsigned, wrong } from './signature.ts'
import type { Webhook } from './webhook.ts'

/** A signing token is this and the base64 of 32 bytes; every other secret is a secret token. */
const SIGNING_TOKEN = 'whsec_'

/** As Standard Webhooks has them: a scheme and base64, with spaces in between. */
const SIGNATURES = /^v\w+,[\w+/=-]+(?: v\w+,[\w+/=-]+)*$/

/**
 * GitLab: project, group and system hooks, with a signing token (GitLab 19) or a secret token. `Idempotency-Key` (GitLab 17.4), to which `webhook-id` is equal,
 * is the same when a request is sent again. `X-Gitlab-Event-UUID` is not taken: hooks that another hook has set off share it.
 * Sources: docs.gitlab.com, "Webhooks", "Webhook events" and "System hooks"; gitlab-org/gitlab!230944 and !231325.
 */
export const gitlab = defineKind({
  name: 'gitlab',
  timeoutMs: 10_000,
  options: {
    secrets: Type.Array(
      // A signing token that is cut off would be a key that can be guessed.
      Type.String({ minLength: 8, pattern: `^(?!${SIGNING_TOKEN})|^${SIGNING_TOKEN}[A-Za-z0-9+/]{43}=$` }),
      { minItems: 1, maxItems: 2, uniqueItems: true },
    ),
  },
  verify(webhook, { secrets }) {
    const signingTokens = secrets.filter((secret) => secret.startsWith(SIGNING_TOKEN))
    const signatures = webhook.header('webhook-signature')
    if (signatures !== undefined && signingTokens.length > 0) return signed(webhook, signatures, signingTokens)
    const tokens = secrets.filter((secret) => !secret.startsWith(SIGNING_TOKEN))
    if (tokens.length === 0) return unsigned('webhook-signature is missing')
    const token = webhook.header('x-gitlab-token')
    if (token === undefined) return unsigned('X-Gitlab-Token is missing')
    return isSecret(token, tokens) ? OK : wrong('X-Gitlab-Token is none of the secrets')
  },
  identify(webhook) {
    const { json } = webhook
    // With a custom template, the body may say nothing of it.
    const event = json.text('/object_kind') ?? json.text('/event_name') ?? nameOf(webhook.header('x-gitlab-event'))
    return {
      id: webhook.header('webhook-id') ?? webhook.header('idempotency-key'),
      type: event === undefined ? undefined : `com.gitlab.${event}`,
      source: json.text('/project/web_url') ?? webhook.header('x-gitlab-instance'),
      subject: json.text('/project/path_with_namespace') ?? json.text('/group_path') ?? json.text('/full_path'),
    }
  },
})

function signed(webhook: Webhook, signatures: string, signingTokens: readonly string[]): Verdict {
  const id = webhook.header('webhook-id')
  const time = webhook.header('webhook-timestamp')
  if (id === undefined || time === undefined) return unsigned('webhook-id or webhook-timestamp is missing')
  if (!SIGNATURES.test(signatures)) return wrong('webhook-signature is no list of signatures')
  const given = signatures.split(' ').flatMap((one) => (one.startsWith('v1,') ? [one.slice('v1,'.length)] : []))
  const secrets = signingTokens.map((token) => Buffer.from(token.slice(SIGNING_TOKEN.length), 'base64'))
  const parts = [`${id}.${time}.`, webhook.body]
  return isSigned(given, { algorithm: 'sha256', encoding: 'base64', secrets, parts })
    ? timely(time, webhook.receivedAtMs)
    : wrong('webhook-signature fits none of the signing tokens')
}

/** `Merge Request Hook` is about a `merge_request`. */
const nameOf = (event: string | undefined): string | undefined =>
  event
    ?.replace(/ Hook$/, '')
    .replaceAll(' ', '_')
    .toLowerCase()
