import { alertmanager } from './alertmanager.ts'
import { awsEventbridge } from './aws-eventbridge.ts'
import { awsSns } from './aws-sns.ts'
import { cdevents } from './cdevents.ts'
import { generic } from './generic.ts'
import { github } from './github.ts'
import { gitlab } from './gitlab.ts'
import type { SourceKind } from './kind.ts'
import { otelLogs } from './otel-logs.ts'
import { segment } from './segment.ts'
import { shopify } from './shopify.ts'
import { slack } from './slack.ts'
import { standard } from './standard.ts'
import { stripe } from './stripe.ts'
import { twilio } from './twilio.ts'

/** The built-in kinds of sources. */
export const kinds: readonly SourceKind[] = [
  alertmanager,
  awsEventbridge,
  awsSns,
  cdevents,
  generic,
  github,
  gitlab,
  otelLogs,
  segment,
  shopify,
  slack,
  standard,
  stripe,
  twilio,
]
