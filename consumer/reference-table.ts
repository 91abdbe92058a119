import { readFile, stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { Type } from '@sinclair/typebox'
import { parse } from 'csv-parse'
import type { Event } from '../shared/events/event.ts'

/**
 * A table of what is known about events: a CSV file (RFC 4180, with a header row) or a JSON file (an array of objects), one row a key. The file is read
 * again whenever it changes. Replace it by renaming another one over it, so that it is never read half written.
 *
 * CSV is parsed by `csv-parse`: it has no dependencies, names the line of what is wrong, and takes quoting at its word instead of guessing.
 */

/** How often the file is looked at. Notifications of the file system would come sooner, where they come at all: not from a network's file
 * system, nor when a directory above is exchanged, as Kubernetes does with a ConfigMap. */
export const REFERENCE_TABLE_POLL_MS = 250
/** A larger file is refused: all of it is held in memory. */
export const REFERENCE_TABLE_MAX_BYTES = 16 * 1024 * 1024
/** A larger row, as JSON, is refused: it goes into a header of every record that it concerns. */
export const REFERENCE_TABLE_MAX_ROW_BYTES = 16 * 1024

/** The consumer's variables for it. */
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
  /** A file has been read and is in use now. */
  loaded(rows: number): void
  /** The file cannot be read or used; the table stays as it was. Told once for each state of the file. */
  rejected(reason: string): void
  /** An event was looked up. */
  lookedUp(status: LookupResult['status']): void
}

/** How an event's look-up can end. */
export const LOOKUP_STATUSES = ['found', 'missing', 'unavailable'] as const

/** What the table says about an event. */
export type LookupResult =
  /** The row, as JSON. */
  | { status: 'found'; value: unknown }
  | { status: 'missing' }
  /** The file has never been read successfully; that holds no event back. */
  | { status: 'unavailable'; reason: string }

export interface ReferenceTable {
  /** undefined for an event without the attribute. */
  find(event: Event): LookupResult | undefined
  /** Reads the file for the first time, and from then on when it changes. Resolves after the first attempt, whatever came of it. */
  start(): Promise<void>
  stop(): void
}

type Row = Readonly<Record<string, unknown>>

export function createReferenceTable(options: ReferenceTableOptions): ReferenceTable {
  const { file, keyColumn, attribute, loaded, rejected, lookedUp } = options
  let table: ReadonlyMap<string, Row> | undefined
  let fault = 'it has not been read yet'
  let seen: string | undefined
  let timer: ReturnType<typeof setInterval> | undefined
  let busy = false

  const reload = async (): Promise<void> => {
    const stamp = await stampOf(file)
    if (stamp === seen) return
    try {
      const rows = await readTable(file, keyColumn)
      // What was written to meanwhile is read again at the next look; until then it is not trusted.
      if ((await stampOf(file)) !== stamp) return
      table = rows
      loaded(rows.size)
    } catch (error) {
      fault = error instanceof Error ? error.message : String(error)
      rejected(fault)
    }
    seen = stamp
  }

  const look = async (): Promise<void> => {
    // Reading may take longer than a poll: the next one then finds the change that this one misses.
    if (busy) return
    busy = true
    await reload().finally(() => {
      busy = false
    })
  }

  const resultOf = (key: string): LookupResult => {
    if (table === undefined) return { status: 'unavailable', reason: fault }
    const value = table.get(key)
    return value === undefined ? { status: 'missing' } : { status: 'found', value }
  }

  return {
    find(event) {
      const key = attributeOf(event, attribute)
      if (key === undefined) return undefined
      const found = resultOf(key)
      lookedUp(found.status)
      return found
    },
    async start() {
      await look()
      timer = setInterval(() => void look(), REFERENCE_TABLE_POLL_MS)
      timer.unref()
    },
    stop: () => clearInterval(timer),
  }
}

/** Changes whenever the file does. Size and time alone would miss a replacement of equal size within the clock's grain; the inode tells. */
async function stampOf(file: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true })
    return [dev, ino, size, mtimeNs, ctimeNs].join(':')
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code)
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

/** @throws Error whose message says what is wrong with the file, and where */
async function readTable(file: string, keyColumn: string): Promise<ReadonlyMap<string, Row>> {
  // Asked first, so that a file that is far too large is not read at all.
  const { size } = await stat(file)
  if (size > REFERENCE_TABLE_MAX_BYTES)
    throw new Error(`${file} has ${size} bytes; the limit is ${REFERENCE_TABLE_MAX_BYTES}`)
  const bytes = await readFile(file)
  const table = new Map<string, Row>()
  const add = (row: unknown, where: string): void => {
    const fault = addRow(table, row, keyColumn)
    if (fault !== undefined) throw new Error(`${file}, ${where}: ${fault}`)
  }
  if (file.endsWith('.json')) {
    for (const [index, row] of parseJsonRows(bytes, file).entries()) add(row, `row ${index + 1}`)
  } else {
    let rows = 0
    for await (const row of csvRows(bytes, file)) add(row, `row ${++rows}`)
  }
  return table
}

/** Adds a row under its key; returns what is wrong with it, if anything is. */
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

/** Rows are handed to every handler: none may change what the next one sees. */
function freeze<T>(value: T): T {
  if (value !== null && typeof value === 'object') for (const part of Object.values(Object.freeze(value))) freeze(part)
  return value
}

const decoder = new TextDecoder('utf-8', { fatal: true })

function parseJsonRows(bytes: Buffer, file: string): unknown[] {
  let rows: unknown
  try {
    rows = JSON.parse(decoder.decode(bytes))
  } catch (error) {
    throw new Error(`${file} is not JSON: ${(error as Error).message}`)
  }
  if (!Array.isArray(rows)) throw new Error(`${file} is not a JSON array of objects`)
  return rows
}

/** Parsing a whole file at once would stop everything else for up to a second. */
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
  // Invalid bytes would silently become replacement characters.
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
