import { type Static, Type } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { oneOf } from '../../shared/service/one-of.ts'
import './formats.ts'

/**
 * What was done to dead letters and streams, and by whom: the records of a stream's `.acts` topic, and the state that follows from them. Nothing else
 * remembers acts, so a console that starts anew knows as much.
 */

const Time = Type.String({ format: 'date-time' })
const Offset = Type.Integer({ minimum: 0 })
const by = Type.String({
  description:
    'The id of the key; of whoever has a token or has logged in, “jwt:”, the token’s subject, and the name; “anyone” with AUTH=off.',
})
const reason = Type.Optional(Type.String({ description: 'As given by who acted.' }))

/** Which letters a request is about; every given member must hold. */
export const LetterFilter = Type.Object(
  {
    reason: Type.Optional(Type.String({ description: 'Of the failure.', examples: ['out of attempts'] })),
    handler: Type.Optional(Type.String({ description: 'TYPE@VERSION, or TYPE for all versions.' })),
    type: Type.Optional(Type.String({ description: 'The event’s type; a final * stands for anything.' })),
    source: Type.Optional(Type.String()),
    subject: Type.Optional(Type.String()),
    id: Type.Optional(Type.String()),
    from: Type.Optional(Type.String({ format: 'date-time', description: 'Put aside at this time or later.' })),
    to: Type.Optional(Type.String({ format: 'date-time', description: 'Put aside before this time.' })),
  },
  { title: 'LetterFilter', additionalProperties: false },
)
export type LetterFilter = Static<typeof LetterFilter>

export const Edit = Type.Object(
  {
    type: Type.Optional(Type.String({ minLength: 1, description: 'A new event type.' })),
    dataschema: Type.Optional(
      Type.Union([Type.String({ format: 'uri' }), Type.Null()], { description: 'null removes it.' }),
    ),
    data: Type.Optional(Type.Unknown({ description: 'New data, as JSON.' })),
    patch: Type.Optional(
      Type.Array(
        Type.Object({
          op: oneOf(['add', 'remove', 'replace', 'move', 'copy', 'test']),
          path: Type.String(),
          from: Type.Optional(Type.String()),
          value: Type.Optional(Type.Unknown()),
        }),
        { maxItems: 1_000, description: 'RFC 6902 operations on the data, in place of `data`.' },
      ),
    ),
  },
  {
    title: 'Edit',
    additionalProperties: false,
    description: 'How the event is changed before it is redriven. Its id and source stay.',
  },
)
export type Edit = Static<typeof Edit>

export const ACTIONS = ['redrive', 'discard'] as const
export type Action = (typeof ACTIONS)[number]

const ActionSchema = oneOf(ACTIONS)

/** The partition, the offset in `.dlq`, and the generation that a redrive makes (of a discard: that of the letter). */
const Letters = Type.Array(Type.Tuple([Offset, Offset, Type.Integer({ minimum: 0 })]))

const LettersRecord = Type.Object({
  act: ActionSchema,
  id: Type.String(),
  time: Time,
  by,
  reason,
  job: Type.Optional(Type.String()),
  letters: Letters,
  edit: Type.Optional(Edit),
  /** Of a job: by partition, the next offset to look at. */
  positions: Type.Optional(Type.Array(Offset)),
})

export type LettersRecord = Static<typeof LettersRecord>

const JobRecord = Type.Object({
  act: Type.Literal('job'),
  id: Type.String(),
  time: Time,
  by,
  reason,
  action: ActionSchema,
  filter: LetterFilter,
  ratePerSecond: Type.Number({ exclusiveMinimum: 0 }),
  /** By partition: letters with offsets in [from, to) are concerned. */
  from: Type.Array(Offset),
  to: Type.Array(Offset),
})

export type JobRecord = Static<typeof JobRecord>

const JobEndRecord = Type.Object({
  act: Type.Literal('job-end'),
  id: Type.String(),
  job: Type.String(),
  time: Time,
  by,
  state: oneOf(['done', 'cancelled']),
  detail: Type.Optional(Type.String()),
})

const StreamRecord = Type.Object({
  act: oneOf(['pause', 'resume']),
  id: Type.String(),
  time: Time,
  by,
  reason,
})

export const ActRecord = Type.Union([LettersRecord, JobRecord, JobEndRecord, StreamRecord])
export type ActRecord = Static<typeof ActRecord>

const check = TypeCompiler.Compile(ActRecord)

export const encodeAct = (act: ActRecord): Buffer => Buffer.from(JSON.stringify(act))

/** undefined for what is no act. */
export function decodeAct(value: Buffer | null): ActRecord | undefined {
  if (value === null) return undefined
  try {
    const parsed: unknown = JSON.parse(value.toString())
    return check.Check(parsed) ? parsed : undefined
  } catch {
    return undefined
  }
}

/** What was done to a letter. */
export const LetterAct = Type.Object(
  {
    act: ActionSchema,
    id: Type.String({ description: 'Of the act.' }),
    time: Time,
    by,
    reason,
    job: Type.Optional(Type.String({ description: 'The job that did it.' })),
    edited: Type.Optional(Type.Boolean()),
  },
  { title: 'LetterAct', description: 'What was done to a dead letter. A letter is acted on once.' },
)
export type LetterAct = Static<typeof LetterAct>

export const letterActOf = ({ act, id, time, by: who, reason: why, job, edit }: LettersRecord): LetterAct => ({
  act,
  id,
  time,
  by: who,
  ...(why === undefined ? {} : { reason: why }),
  ...(job === undefined ? {} : { job }),
  ...(edit === undefined ? {} : { edited: true }),
})

export const JOB_STATES = ['running', 'done', 'cancelled'] as const

export const Job = Type.Object(
  {
    id: Type.String(),
    action: ActionSchema,
    state: oneOf(JOB_STATES),
    filter: LetterFilter,
    ratePerSecond: Type.Number(),
    by,
    reason,
    time: Time,
    acted: Type.Integer({ minimum: 0, description: 'Letters that were redriven or discarded so far.' }),
    looked: Type.Integer({ minimum: 0, description: 'Of `of`: how many offsets of .dlq were looked at so far.' }),
    of: Type.Integer({ minimum: 0 }),
    endedAt: Type.Optional(Time),
    endedBy: Type.Optional(Type.String()),
    detail: Type.Optional(Type.String()),
  },
  { title: 'Job', description: 'The redrive, or discard, of all letters that a filter matches.' },
)
export type Job = Static<typeof Job>

/** A job with where it is. */
export interface JobState {
  record: JobRecord
  /** By partition: the next offset to look at. */
  positions: number[]
  acted: number
  end: Static<typeof JobEndRecord> | undefined
}

export function jobView({ record, positions, acted, end }: JobState): Job {
  const sum = (offsets: readonly number[]): number => offsets.reduce((total, one) => total + one, 0)
  const { id, action, filter, ratePerSecond, by: who, time, reason: why, from, to } = record
  return {
    id,
    action,
    state: end?.state ?? 'running',
    filter,
    ratePerSecond,
    by: who,
    ...(why === undefined ? {} : { reason: why }),
    time,
    acted,
    looked: end?.state === 'done' ? sum(to) - sum(from) : sum(positions) - sum(from),
    of: sum(to) - sum(from),
    ...(end === undefined ? {} : { endedAt: end.time, endedBy: end.by }),
    ...(end?.detail === undefined ? {} : { detail: end.detail }),
  }
}

/** The state of a stream's acts, folded from their records in order. */
export class ActsState {
  /** By partition and offset of the letter. */
  readonly #letters = new Map<number, Map<number, LetterAct>>()
  /** Ids of acts. */
  readonly #taken = new Set<string>()
  readonly jobs = new Map<string, JobState>()
  /** The last pause, while it lasts. */
  paused: Static<typeof StreamRecord> | undefined

  /** Takes a record once, however often it is given: it may be read after it was written here, and be in the log twice after a fault. */
  take(record: ActRecord): void {
    if (this.#taken.has(record.id)) return
    this.#taken.add(record.id)
    switch (record.act) {
      case 'redrive':
      case 'discard':
        this.#takeLetters(record)
        return
      case 'job':
        this.jobs.set(record.id, { record, positions: [...record.from], acted: 0, end: undefined })
        return
      case 'job-end': {
        const job = this.jobs.get(record.job)
        // The first end counts: a job that was cancelled may have been done at the same time.
        if (job !== undefined) job.end ??= record
        return
      }
      case 'pause':
        this.paused = record
        return
      case 'resume':
        this.paused = undefined
    }
  }

  #takeLetters(record: LettersRecord): void {
    const { job, letters, positions } = record
    const shared = letterActOf(record)
    for (const [partition, offset] of letters) {
      const ofPartition = this.#letters.get(partition) ?? new Map<number, LetterAct>()
      this.#letters.set(partition, ofPartition)
      ofPartition.set(offset, shared)
    }
    const of = job === undefined ? undefined : this.jobs.get(job)
    if (of === undefined) return
    of.acted += letters.length
    if (positions !== undefined) of.positions = positions
  }

  actOf({ partition, offset }: { partition: number; offset: number }): LetterAct | undefined {
    return this.#letters.get(partition)?.get(offset)
  }
}
