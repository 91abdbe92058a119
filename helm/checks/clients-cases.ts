import type { Event } from '../../shared/events/event.ts'

/** Events for other projects' clients: values that are unusual in a header, in JSON or in a URI. */

export type ClientMode = 'binary' | 'structured' | 'batch'

/** An event as given to an SDK, or as read by one. */
export interface ClientEvent {
  id: string
  source: string
  type: string
  subject: string
  time: string
  datacontenttype?: string
  dataschema?: string
  extensions: Record<string, string>
  /** Base64; null: none. */
  data: string | null
}

export interface ClientCase {
  text: string
  /**
   * The value that a header sent without any encoding must be read as, or the status that refuses it. Default: the value itself. CloudEvents HTTP
   * binding 1.0.2, section 3.1.3.2.
   */
  header?: string | 400 | 422
}

/** Each is the ID, the subject and an extension attribute of an event. */
export const CASES: readonly ClientCase[] = [
  { text: 'plain' },
  { text: 'é' },
  { text: '日本語' },
  { text: '😀 Zürich' },
  { text: '100%' },
  { text: '5%zz, 6%4' },
  { text: 'a%41b', header: 'aAb' },
  { text: 'a b  c' },
  { text: '"quoted"', header: 'quoted' },
  { text: 'a "q" b' },
  { text: '"a" or "b"' },
  { text: '"' },
  { text: '{"json":1}' },
  { text: 'a\\b' },
  { text: "it's; a=1, b=2 & c=<d>" },
  { text: '?q=1&r#f' },
  { text: 'a+b/c~d:e@f' },
  { text: 'null' },
  { text: '0012' },
  { text: 'مرحبا بالعالم' },
  { text: 'e\u0301 a\u00a0b x\ufeffy' },
  { text: '%' },
  { text: '%%2' },
  { text: 'a%2541', header: 'a%41' },
  { text: 'a%C3%A9', header: 'aé' },
  { text: '%22x%22', header: '"x"' },
  { text: '"a\\"b"', header: 'a"b' },
  { text: 'a,b' },
  { text: 'a, "b"' },
  // These cannot be told from two header fields.
  { text: 'a, b', header: 400 },
  { text: '""', header: 422 },
  { text: 'a%0Ab', header: 422 },
  { text: '%00', header: 422 },
  { text: '%FF', header: 422 },
  { text: '%ED%A0%80', header: 422 },
  { text: 'x'.repeat(2_000) },
]

/** URI-references that every SDK sends percent-encoded once. Each is decoded, unless the decoded value is not a valid URI. */
const SOURCES: readonly ClientCase[] = [
  { text: '/shop' },
  { text: '/a%20b' },
  { text: '/caf%C3%A9' },
  { text: 'urn:example:a%2Bb', header: 'urn:example:a+b' },
  { text: 'https://example.com/a?b=%22c%22#d' },
]

const BODIES: readonly { datacontenttype?: string; data: Buffer | null }[] = [
  { datacontenttype: 'application/json', data: Buffer.from('{"n":1.5,"text":"é \\u0000 \\"q\\"","list":[null,true]}') },
  { datacontenttype: 'text/plain', data: Buffer.from('é 日本語 100%\r\n') },
  { datacontenttype: 'application/octet-stream', data: Buffer.from(Array.from({ length: 256 }, (_, at) => at)) },
  { data: null },
]

/** Identifies the stored record, whatever happened to the unusual attributes. */
export const MARK = 'mark'

const at = <T>(list: readonly T[], index: number): T => list[index % list.length] as T

export const eventsOf = (mode: ClientMode): ClientEvent[] =>
  CASES.map(({ text }, index) => {
    const { datacontenttype, data } = at(BODIES, index)
    return {
      id: text,
      source: at(SOURCES, index).text,
      type: datacontenttype === 'application/json' ? 'odd.handled' : 'odd.passed',
      subject: text,
      time: '2026-01-31T23:59:58.125Z',
      ...(datacontenttype === undefined ? {} : { datacontenttype }),
      ...(index % 3 === 0 ? { dataschema: 'https://example.com/schemas/odd%20one' } : {}),
      extensions: { odd: text, [MARK]: `${mode}${index}` },
      data: data?.toString('base64') ?? null,
    }
  })

/** The event that must be read from its headers when they are sent without encoding, or the status that refuses it. */
export function readFromHeaders(event: ClientEvent, index: number): ClientEvent | 400 | 422 {
  const { text, header = text } = at(CASES, index)
  if (typeof header === 'number') return header
  const source = at(SOURCES, index)
  return {
    ...event,
    id: header,
    source: String(source.header ?? source.text),
    subject: header,
    extensions: { ...event.extensions, odd: header },
  }
}

export const clientEvent = ({ id, source, type, subject, time, ...event }: Event): ClientEvent => ({
  id,
  source,
  type,
  subject: subject ?? '',
  time: time ?? '',
  ...(event.datacontenttype === undefined ? {} : { datacontenttype: event.datacontenttype }),
  ...(event.dataschema === undefined ? {} : { dataschema: event.dataschema }),
  extensions: { ...event.extensions },
  data: event.data?.toString('base64') ?? null,
})

/** The members in which two events differ. SDKs format times and JSON in different ways, so these are compared by meaning. */
export function differences(expected: ClientEvent, found: ClientEvent): string[] {
  const different: string[] = []
  const compare = (name: string, one: unknown, other: unknown): void => {
    if (one !== other) different.push(`${name} is ${JSON.stringify(other)} in place of ${JSON.stringify(one)}`)
  }
  for (const name of ['id', 'source', 'type', 'subject', 'datacontenttype', 'dataschema'] as const)
    compare(name, expected[name], found[name])
  compare('time', Date.parse(expected.time), Date.parse(found.time))
  for (const name of new Set([...Object.keys(expected.extensions), ...Object.keys(found.extensions)]))
    compare(name, expected.extensions[name], found.extensions[name])
  compare('data', meaningOf(expected), meaningOf(found))
  return different
}

function meaningOf({ datacontenttype, data }: ClientEvent): string | null {
  if (data === null || datacontenttype !== 'application/json') return data
  try {
    return JSON.stringify(JSON.parse(Buffer.from(data, 'base64').toString()))
  } catch {
    return data
  }
}
