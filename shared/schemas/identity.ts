/** How records and events name a version of a schema. */

export interface SchemaVersion {
  /** The name under which the versions of one event type’s schema stand: `TENANT.STREAM-TYPE` by default. */
  subject: string
  /** From 1. */
  version: number
}

/** Registries count in 32 bits. */
export const MAX_VERSION = 2 ** 31 - 1

/** The longest default subject: a tenant, a stream, and a type of the longest that an attribute may be. */
const MAX_SUBJECT_CHARS = 2 * 63 + 2 + 16_384

/** The value of the header `kt-schema`. */
export const schemaHeader = (subject: string, version: number): string => `${subject}/${version}`

const HEADER = /^(.+)\/([1-9]\d{0,9})$/s

/** What {@link schemaHeader} wrote; undefined for other text. A subject may have slashes: the version is after the last. */
export function parseSchemaHeader(text: string | undefined): SchemaVersion | undefined {
  const [, subject, version] = HEADER.exec(text ?? '') ?? []
  return checked(subject, version)
}

/** For the attribute `dataschema` (RFC 8141). */
export const schemaUrn = (subject: string, version: number): string =>
  `urn:kafkatrace:schema:${encodeURIComponent(subject.toWellFormed())}:${version}`

/** RFC 8141, section 3.1: `urn` and the namespace are case-insensitive. */
const URN = /^[uU][rR][nN]:[kK][aA][fF][kK][aA][tT][rR][aA][cC][eE]:schema:([^:]+):([1-9]\d{0,9})$/

/** Whether a URI is of the form of {@link schemaUrn}, right or not. */
export const isSchemaUrn = (uri: string): boolean => /^urn:kafkatrace:schema:/i.test(uri)

/** What {@link schemaUrn} wrote; undefined for any other URI. */
export function parseSchemaUrn(text: string | undefined): SchemaVersion | undefined {
  const [, subject = '', version] = URN.exec(text ?? '') ?? []
  try {
    return checked(decodeURIComponent(subject), version)
  } catch {
    return undefined
  }
}

function checked(subject: string | undefined, version: string | undefined): SchemaVersion | undefined {
  if (subject === undefined || version === undefined) return undefined
  if (subject.length > MAX_SUBJECT_CHARS || Number(version) > MAX_VERSION) return undefined
  return { subject, version: Number(version) }
}
