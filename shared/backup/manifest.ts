import { createHash } from 'node:crypto'
import { type Static, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'

/**
 * What a backup holds. It is the only thing that says which files belong to a backup: a file that it does not name is left over from a run that was
 * broken off. docs/recovery.md describes it for other programs.
 */

export const MANIFEST = 'manifest.json'
/** Of a run that has not ended: what it has stored so far, besides what the manifest names. */
export const UNFINISHED = 'unfinished.json'

const FORMAT = 'kafkatrace-backup'
const VERSION = 1

const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const Sum = Type.String({ pattern: '^[0-9a-f]{64}$', description: 'SHA-256, in hexadecimal.' })
const TimeMs = Type.Integer({ minimum: 0, description: 'ms since the epoch.' })

const Segment = Type.Object(
  {
    file: Type.String({
      pattern: '^topics/kt[a-z0-9.-]+/\\d+/\\d{20}\\.[0-9a-f]{8}\\.log$',
      description: 'Its path in the backup.',
    }),
    firstOffset: Count,
    lastOffset: Count,
    records: Type.Integer({ minimum: 1 }),
    bytes: Type.Integer({ minimum: 1, description: 'Of the file.' }),
    sha256: Sum,
  },
  { additionalProperties: false },
)
export type Segment = Static<typeof Segment>

const Partition = Type.Object(
  {
    partition: Count,
    next: Type.Integer({
      minimum: 0,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'All committed records with offsets below it are in the segments, and none above.',
    }),
    segments: Type.Array(Segment, { description: 'In the order of their offsets.' }),
  },
  { additionalProperties: false },
)
export type Partition = Static<typeof Partition>

const Topic = Type.Object(
  {
    topic: Type.String({ minLength: 1 }),
    id: Type.Optional(Type.String({ description: 'The ID that Kafka gave it, in base64.' })),
    settings: Type.Optional(
      Type.Record(Type.String(), Type.String(), {
        description: 'Those that were set for the topic itself. Absent where they could not be read.',
      }),
    ),
    partitions: Type.Array(Partition, { description: 'All of them, by number.' }),
  },
  { additionalProperties: false },
)
export type Topic = Static<typeof Topic>

const Committed = Type.Object(
  { topic: Type.String(), partition: Count, offset: Count, metadata: Type.String() },
  { additionalProperties: false },
)

export const Manifest = Type.Object(
  {
    format: Type.Literal(FORMAT),
    version: Type.Literal(VERSION),
    tenant: Type.Optional(Type.String({ description: 'The only one whose topics are in the backup. Absent: all.' })),
    group: Type.String({ description: 'The consumers’ group.' }),
    begunMs: TimeMs,
    pointMs: Type.Optional(
      Type.Integer({
        minimum: 0,
        description:
          'The consistent point, ms since the epoch: when the ends of the topics were taken. Absent in a run that has not ended.',
      }),
    ),
    committed: Type.Array(Committed, { description: 'What the group had committed at that point.' }),
    topics: Type.Array(Topic),
  },
  { additionalProperties: false },
)
export type Manifest = Static<typeof Manifest>

/** A manifest is damaged, or is none. */
export class ManifestError extends Error {
  override readonly name = 'ManifestError'
}

export const newManifest = (of: Pick<Manifest, 'group' | 'begunMs'> & { tenant: string | undefined }): Manifest => ({
  format: FORMAT,
  version: VERSION,
  ...(of.tenant !== undefined && { tenant: of.tenant }),
  group: of.group,
  begunMs: of.begunMs,
  committed: [],
  topics: [],
})

const FIRST_LINE = '{\n'
const SUM_LINE = /^ "sha256": "([0-9a-f]{64})",\n/

const sumOf = (text: string): string => createHash('sha256').update(text).digest('hex')

/** JSON whose second line is the SHA-256 of the text without that line. */
export function encodeManifest(manifest: Manifest): string {
  const text = `${JSON.stringify(manifest, null, 1)}\n`
  return `${FIRST_LINE} "sha256": "${sumOf(text)}",\n${text.slice(FIRST_LINE.length)}`
}

/** @throws ManifestError */
export function decodeManifest(text: string): Manifest {
  const rest = text.startsWith(FIRST_LINE) ? text.slice(FIRST_LINE.length) : ''
  const [line, stated] = SUM_LINE.exec(rest) ?? []
  if (line === undefined || stated === undefined)
    throw new ManifestError('it does not begin with its checksum: it is no manifest, or is damaged')
  const body = FIRST_LINE + rest.slice(line.length)
  if (sumOf(body) !== stated) throw new ManifestError('its checksum is wrong: it was changed, or is damaged')
  const document: unknown = JSON.parse(body)
  const version = (document as { version?: unknown }).version
  if (version !== VERSION) throw new ManifestError(`it has version ${String(version)}; this program reads ${VERSION}`)
  const [fault] = Value.Errors(Manifest, document)
  if (fault !== undefined) throw new ManifestError(`${fault.path}: ${fault.message}`)
  return document as Manifest
}

/** All segments with their places. */
export function* segmentsOf(
  manifest: Manifest,
): Generator<{ topic: string; partition: number; segment: Segment }, void, void> {
  for (const { topic, partitions } of manifest.topics)
    for (const { partition, segments } of partitions)
      for (const segment of segments) yield { topic, partition, segment }
}
