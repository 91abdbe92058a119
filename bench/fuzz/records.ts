import fc from 'fast-check'
import { FAULT_TYPE } from '../../consumer/testing/faulty-handlers.ts'
import { foreignRecord } from '../../consumer/testing/foreign-records.ts'
import type { HeaderValue, RecordHeaders } from '../../shared/events/headers.ts'
import type { OutgoingRecord } from '../../shared/events/record.ts'
import { createRandom, type Random } from '../faults/random.ts'
import { changedBytes } from './bytes.ts'
import { bytesToText, textToBytes } from './corpus.ts'

/** Odd records: some made up by structure, the others real ones of every topic with other bytes. */

/** As records are saved: bytes as text, see corpus.ts. */
export interface SavedRecord {
  /** `odd`, or what comes behind `beside`: `retry`, `dlq`, `processed`, `acts`; or `control`. */
  readonly place: Place
  readonly key: string | null
  readonly value: string | null
  readonly headers: readonly (readonly [name: string, value: string | null])[]
}

/** Foreign records in a stream's own topic, and forged ones in the topics that only the services write to. */
export const PLACES = ['odd', 'retry', 'dlq', 'processed', 'acts', 'control'] as const
export type Place = (typeof PLACES)[number]

/** Of eight records, how many go to each place. */
const SHARES: readonly [Place, ...Place[]] = ['odd', 'odd', 'odd', 'retry', 'processed', 'dlq', 'acts', 'control']
/** Of the records in `odd`, those by structure. */
const STRUCTURE_SHARE = 0.6
const CHANGED_SHARE = 0.4

const TYPES = ['plain', `${FAULT_TYPE}always`, `${FAULT_TYPE}hopeless`, `${FAULT_TYPE}odd`]

export type Fields = Pick<OutgoingRecord, 'key' | 'value' | 'headers'>
export interface OddRecord extends Fields {
  readonly place: Place
}

/** Real records, by where they were read. */
export type Corpus = ReadonlyMap<Place, readonly Fields[]>

const bytesOf = (value: HeaderValue): Buffer =>
  typeof value === 'string' ? Buffer.from(value) : (value ?? Buffer.alloc(0))

/** Other bytes in some of a record's parts, and headers that are gone, twice, or in another order. */
function changed({ key, value, headers }: Fields, other: Fields, random: Random): Fields {
  const maybe = (bytes: HeaderValue, by: HeaderValue): HeaderValue =>
    random.chance(CHANGED_SHARE) ? changedBytes(bytesOf(bytes), random, bytesOf(by)) : bytes
  const pairs = headers.names.map((name, at): [string, HeaderValue] => [name, headers.values[at] ?? null])
  const otherValue = (): HeaderValue =>
    other.headers.values[random.integer(0, Math.max(0, other.headers.values.length - 1))] ?? null
  const mixed = pairs.flatMap(([name, text]): [string, HeaderValue][] => {
    const how = random.integer(0, 19)
    if (how === 0) return []
    if (how === 1)
      return [
        [name, text],
        [name, otherValue()],
      ]
    // A name of a header is UTF-8 in every client.
    if (how === 2) return [[changedBytes(Buffer.from(name), random, Buffer.from('ce_id')).toString(), text]]
    return [[name, maybe(text, otherValue())]]
  })
  if (random.chance(0.05)) mixed.reverse()
  return {
    key: random.chance(0.03) ? null : (maybe(key, other.key) as Fields['key']),
    value: random.chance(0.03) ? null : (maybe(value, other.value) as Fields['value']),
    headers: { names: mixed.map(([name]) => name), values: mixed.map(([, text]) => text) },
  }
}

/** @param round of a run with this seed: each has others */
export function oddRecords(count: number, seed: number, round: number, corpus: Corpus): OddRecord[] {
  const random = createRandom(Math.imul(seed, 0x9e3779b1) + round)
  const made = fc.sample(foreignRecord(TYPES), { numRuns: count, seed: random.integer(0, 0x7fffffff) })
  const all = [...corpus.values()].flat()
  const anyOf = (fields: readonly Fields[]): Fields => fields[random.integer(0, fields.length - 1)] as Fields
  return made.map((fields): OddRecord => {
    const place = random.pick(SHARES)
    const isMade = place === 'odd' && random.chance(STRUCTURE_SHARE)
    const real = corpus.get(place) ?? []
    // Sometimes what belongs into another topic.
    const base = real.length === 0 || random.chance(0.1) ? anyOf(all) : anyOf(real)
    return { place, ...(isMade ? fields : changed(base, anyOf(all), random)) }
  })
}

const textOf = (value: HeaderValue): string | null => (value === null ? null : bytesToText(bytesOf(value)))
const ofText = (text: string | null): Buffer | null => (text === null ? null : textToBytes(text))

export const toSaved = ({ place, key, value, headers }: OddRecord): SavedRecord => ({
  place,
  key: textOf(key),
  value: textOf(value),
  headers: headers.names.map((name, at) => [bytesToText(Buffer.from(name)), textOf(headers.values[at] ?? null)]),
})

export const fromSaved = ({ place, key, value, headers }: SavedRecord): OddRecord => ({
  place,
  key: ofText(key),
  value: ofText(value),
  headers: {
    names: headers.map(([name]) => textToBytes(name).toString()),
    values: headers.map(([, text]) => ofText(text)),
  } satisfies RecordHeaders,
})
