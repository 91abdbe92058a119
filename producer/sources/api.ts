/** What a module of kinds of sources imports as `kafkatrace/sources`. */

export type { Fields } from './fields.ts'
export { defineKind, type Identity, type Reply, Secrets, type SourceKind, timeOf, type Verdict } from './kind.ts'
export { holdsSecret, isSecret, isSigned, OK, type Signing, signedBy, timely, unsigned, wrong } from './signature.ts'
export type { Webhook } from './webhook.ts'
