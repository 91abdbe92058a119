import { parseMediaType } from '../../shared/events/event.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import { defineKind, Secrets } from './kind.ts'
import { holdsSecret } from './signature.ts'

/**
 * CDEvents, alone or in a CloudEvent over HTTP, binary or structured. What the CDEvent says goes before what the CloudEvent around it says, which should be the
 * same, and is all there is of Tekton's own CloudEvents.
 * Sources: cdevents.dev, "Common Metadata" and "CloudEvents Binding"; CloudEvents 1.0.2, HTTP binding; tekton.dev, "Events in Tekton".
 */
export const cdevents = defineKind({
  name: 'cdevents',
  // No sender documents one.
  timeoutMs: 10_000,
  options: { secrets: Secrets },
  verify: (webhook, { secrets }) => holdsSecret(webhook, secrets),
  identify(webhook) {
    const { essence } = parseMediaType(webhook.header('content-type') ?? '')
    const envelope = essence === 'application/cloudevents+json' ? webhook.json : undefined
    const data = envelope === undefined ? webhook.data : envelope.json('/data')
    if (data === undefined)
      throw new ProblemError({
        kind: 'invalid-event',
        detail: 'The CloudEvent has no JSON `data`, which is the CDEvent.',
      })
    const event = envelope === undefined ? webhook.json : webhook.parse(data)
    const around = (attribute: string): string | undefined =>
      envelope === undefined ? webhook.header(`ce-${attribute}`) : envelope.text(`/${attribute}`)
    return {
      id: event.text('/context/id') ?? around('id'),
      type: event.text('/context/type') ?? around('type'),
      source: event.text('/context/source') ?? around('source'),
      subject: event.text('/subject/id') ?? around('subject'),
      time: event.text('/context/timestamp') ?? around('time'),
      data,
    }
  },
})
