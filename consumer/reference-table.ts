import { readFile, stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { Type } from '@sinclair/typebox'
import { parse } from 'csv-parse'
import type { Event } from '../shared/events/event.ts'
import { stampOf } from '../shared/service/watched-files.ts'

/**
 * A table of facts about events: a CSV file (RFC 4180, with a header row) or a JSON file (an array of objects), with one row for each key. The file is
 * read again whenever it changes. Replace it by renaming another file over it, so that it is never read half written.
 *
 * CSV is parsed by `csv-parse`, which has no dependencies, names the line of a fault, and does not guess at quoting.
 */

/** How often the file is checked. File system notifications do not come from network file systems, nor when a parent directory is replaced, as
 * Kubernetes does for a ConfigMap. */
export const REFERENCE_TABLE_POLL_MS = 250
/** A larger file is rejected, since the table is held in memory. */
export const REFERENCE_TABLE_MAX_BYTES = 16 * 1024 * 1024
/** A larger row, as JSON, is rejected, since it becomes part of a record header. */
export const REFERENCE_TABLE_MAX_ROW_BYTES = 16 * 1024

export const referenceTableVariables = {
  REFERENCE_TABLE_FILE: Type.Optional(
    Type.String({
      pattern: '\\.(csv|json)$',
      description: 'A CSV or JSON file with data about events. It is read again when it changes.',
    }),
  ),
  REFERENCE_TABLE_KEY_COLUMN: Type.String({
    default: 'key',
    description: 'With REFERENCE_TABLE_FILE: the column that is compared with the event’s attribute.',
  }),
  REFERENCE_TABLE_ATTRIBUTE: Type.String({
    default: 'subject',
    // CloudEvents 1.0.2, section 3: attribute names.
    pattern: '^[a-z0-9]+$',
    description:
      'With REFERENCE_TABLE_FILE: the event’s attribute that is compared: one of the specification, or an extension.',
  }),
}

export interface ReferenceTableOptions {
  file: string
  keyColumn: string
  attribute: string
  /** A file was read and is used from now on. */
  loaded(rows: number): void
  /** The file cannot be read or used; the table is unchanged. Called once for each state of the file. */
  rejected(reason: string): void
  /** An event was looked up. */
  lookedUp(status: LookupResult['status']): void
}

export const LOOKUP_STATUSES = ['found', 'missing', 'unavailable'] as const

export type LookupResult =
  /** The row. */
  | { status: 'found'; value: unknown }
  | { status: 'missing' }
  /** The file has never been read successfully; events are processed all the same. */
  | { status: 'unavailable'; reason: string }

type Row = Readonly<Record<string, unknown>>

export class ReferenceTable {
  #rows: ReadonlyMap<string, Row> | undefined
  /** Why there are no rows. */
  #fault = 'it has not been read yet'
  /** The file that was read last, as {@link stampOf} tells files apart. */
  #seen: string | undefined
  #timer: ReturnType<typeof setInterval> | undefined
  #busy = false

  constructor(readonly options: ReferenceTableOptions) {}

  /** @returns undefined for an event without the attribute */
  find(event: Event): LookupResult | undefined {
    const { attribute, lookedUp } = this.options
    const key = attributeOf(event, attribute)
    if (key === undefined) return undefined
    const found = this.#find(key)
    lookedUp(found.status)
    return found
  }

  #find(key: string): LookupResult {
    if (this.#rows === undefined) return { status: 'unavailable', reason: this.#fault }
    const value = this.#rows.get(key)
    return value === undefined ? { status: 'missing' } : { status: 'found', value }
  }

  /** Reads the file, and reads it again whenever it changes. Resolves after the first attempt, even if that failed. */
  async start(): Promise<void> {
    await this.#look()
    this.#timer = setInterval(() => void this.#look(), REFERENCE_TABLE_POLL_MS)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  async #look(): Promise<void> {
    // Reading may take longer than a poll; a later poll finds the change that this one misses.
    if (this.#busy) return
    this.#busy = true
    await this.#reload().finally(() => {
      this.#busy = false
    })
  }

  async #reload(): Promise<void> {
    const { file, keyColumn, loaded, rejected } = this.options
    const stamp = await stampOf(file)
    if (stamp === this.#seen) return
    try {
      const rows = await readTable(file, keyColumn)
      // A file that was changed while it was read is not used; the next poll reads it again.
      if ((await stampOf(file)) !== stamp) return
      this.#rows = rows
      loaded(rows.size)
    } catch (error) {
      this.#fault = (error as Error).message
      rejected(this.#fault)
    }
    this.#seen = stamp
  }
}

function attributeOf(event: Event, attribute: string): string | undefined {
  switch (attribute) {
    case 'id':
    case 'source':
    case 'type':
    case 'subject':
    case 'time':
    case 'datacontenttype':
    case 'dataschema':
      return event[attribute]
    default:
      return Object.hasOwn(event.extensions, attribute) ? event.extensions[attribute] : undefined
  }
}

/** @throws Error saying what is wrong with the file, and where */
async function readTable(file: string, keyColumn: string): Promise<ReadonlyMap<string, Row>> {
  // First, so that a file that is far too large is not read at all.
  const { size } = await stat(file)
  if (size > REFERENCE_TABLE_MAX_BYTES)
    throw new Error(`${file} has ${size} bytes; the limit is ${REFERENCE_TABLE_MAX_BYTES}`)
  const bytes = await readFile(file)
  const table = new Map<string, Row>()
  let number = 0
  for await (const row of file.endsWith('.json') ? jsonRows(bytes, file) : csvRows(bytes, file)) {
    number++
    const fault = addRow(table, row, keyColumn)
    if (fault !== undefined) throw new Error(`${file}, row ${number}: ${fault}`)
  }
  return table
}

/** Adds a row under its key. @returns what is wrong with the row; undefined if nothing is */
function addRow(table: Map<string, Row>, row: unknown, keyColumn: string): string | undefined {
  if (row === null || typeof row !== 'object' || Array.isArray(row)) return 'is not an object'
  const key = Object.hasOwn(row, keyColumn) ? (row as Row)[keyColumn] : undefined
  if ((typeof key !== 'string' && typeof key !== 'number') || key === '') return `has no key in column "${keyColumn}"`
  if (table.has(String(key))) return `the key "${key}" is there twice`
  if (Buffer.byteLength(JSON.stringify(row)) > REFERENCE_TABLE_MAX_ROW_BYTES)
    return `is over ${REFERENCE_TABLE_MAX_ROW_BYTES} bytes`
  table.set(String(key), freeze(row as Row))
  return undefined
}

/** Handlers share the rows, so none may change them. */
function freeze<T>(value: T): T {
  if (value !== null && typeof value === 'object') for (const part of Object.values(Object.freeze(value))) freeze(part)
  return value
}

const decoder = new TextDecoder('utf-8', { fatal: true })

function jsonRows(bytes: Buffer, file: string): unknown[] {
  let rows: unknown
  try {
    rows = JSON.parse(decoder.decode(bytes))
  } catch (error) {
    throw new Error(`${file} is not JSON: ${(error as Error).message}`)
  }
  if (!Array.isArray(rows)) throw new Error(`${file} is not a JSON array of objects`)
  return rows
}

/** CSV is parsed in slices: parsing a whole file at once would block the thread for up to a second. */
const SLICE_BYTES = 64 * 1024

async function* csvRows(bytes: Buffer, file: string): AsyncGenerator<unknown> {
  const parser = parse({ columns: checkHeader, bom: true, skip_empty_lines: true })
  const slices = Readable.from(slicesOf(bytes))
  slices.on('error', (error) => parser.destroy(error))
  slices.pipe(parser)
  try {
    yield* parser
  } catch (error) {
    throw new Error(`${file} is not CSV: ${(error as Error).message}`)
  }
}

async function* slicesOf(bytes: Buffer): AsyncGenerator<Buffer> {
  // Throws for invalid UTF-8, which the parser would replace with U+FFFD.
  decoder.decode(bytes)
  for (let start = 0; start < bytes.byteLength; start += SLICE_BYTES) {
    yield bytes.subarray(start, start + SLICE_BYTES)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

function checkHeader(names: string[]): string[] {
  if (names.includes('')) throw new Error('a column has no name')
  const repeated = names.find((name, index) => names.indexOf(name) !== index)
  if (repeated !== undefined) throw new Error(`the column "${repeated}" is there twice`)
  return names
}
