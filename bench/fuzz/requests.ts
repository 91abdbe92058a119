/**
 * Requests as docs/api.md and docs/sources/ have them, changed: some in one to three of their parts, the others in their bytes. Each ID in a request has the
 * request's own name in it, which tells what was sent.
 */
import { connect } from 'node:net'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { EXAMPLES, type Example } from '../../producer/testing/examples.ts'
import type { Random } from '../faults/random.ts'
import { changedBytes } from './bytes.ts'
import { bytesToText, textToBytes } from './corpus.ts'
import { changedJson } from './json.ts'

/** The name of a request, in an ID. */
export const NAME = /m\d+-[0-9a-f]{8}\./

/** The bytes for a connection. */
export interface Mutated {
  /** Every ID in the request has this in it. */
  name: string
  /** How it was made, for reports of failures. */
  made: string
  /** Written in this order. */
  pieces: Buffer[]
  /** Whether the client half-closes after it. */
  halfCloses: boolean
}

const json = (name: string) =>
  JSON.stringify({ type: 't', id: `${name}-1`, source: '/m', subject: name, data: { n: 1 } })
const cloudEvent = (name: string, part: number) =>
  JSON.stringify({
    specversion: '1.0',
    type: 't',
    id: `${name}-${part}`,
    source: '/m',
    subject: name,
    data: { n: part },
  })

interface Base {
  /** Default: a POST to /v1/events. */
  path?: string
  headers: readonly string[]
  body: string
  encode?(body: Buffer): Buffer
  sign?: Example['sign']
}

const EVENTS_PATH = '/v1/events'

/** Every form of an event. */
const EVENTS: Readonly<Record<string, (name: string) => Base>> = {
  plain: (name) => ({ headers: ['content-type: application/json'], body: json(name) }),
  binary: (name) => ({
    headers: ['ce-specversion: 1.0', `ce-id: ${name}-1`, 'ce-source: /m', 'ce-type: t', 'content-type: text/plain'],
    body: 'anything',
  }),
  structured: (name) => ({ headers: ['content-type: application/cloudevents+json'], body: cloudEvent(name, 1) }),
  batch: (name) => ({
    headers: ['content-type: application/cloudevents-batch+json'],
    body: `[${[1, 2, 3].map((part) => cloudEvent(name, part)).join(',')}]`,
  }),
  lines: (name) => ({
    headers: ['content-type: application/x-ndjson'],
    body: [1, 2, 3].map((part) => `${cloudEvent(name, part)}\n`).join(''),
  }),
  gzip: (name) => ({
    headers: ['content-type: application/json', 'content-encoding: gzip'],
    body: json(name),
    encode: gzipSync,
  }),
  zstd: (name) => ({
    headers: ['content-type: application/json', 'content-encoding: zstd'],
    body: json(name),
    encode: zstdCompressSync,
  }),
}

/** A webhook of every kind of source that needs no key of Amazon's. */
const WEBHOOKS: Readonly<Record<string, (name: string) => Base>> = Object.fromEntries(
  Object.entries(EXAMPLES).map(([source, { request, sign }]) => [
    source,
    (name) => {
      const { body, headers } = request(Date.now(), () => `${name}-1`)
      const lines = Object.entries(headers).map(([header, value]) => `${header}: ${value}`)
      return { path: `/v1/sources/${source}`, headers: lines, body, ...(sign && { sign }) }
    },
  ]),
)

type Choice = [kind: string, of: (name: string) => Base]
const choicesOf = (bases: Readonly<Record<string, (name: string) => Base>>) =>
  Object.entries(bases) as [Choice, ...Choice[]]
/** Events are sent more often than webhooks. */
const BASES = [choicesOf(EVENTS), choicesOf(EVENTS), choicesOf(WEBHOOKS)] as const

/** The parts of a request, which mutations change. */
interface Parts {
  line: string
  headers: string[]
  /** 'length': Content-Length. 'chunked': one chunk. 'none': neither. */
  framing: 'length' | 'chunked' | 'none'
  lineEnd: string
  body: Buffer
  behind: Buffer
  trailer: string
  sign: Example['sign']
}

const ODD_LINES = [
  'POST /v1/events HTTP/1.0',
  'POST /v1/events',
  'post /v1/events HTTP/1.1',
  'POST  /v1/events HTTP/1.1',
  'POST http://x/v1/events HTTP/1.1',
  'POST /v1/events/ HTTP/1.1',
  'POST //v1/events HTTP/1.1',
  'POST /v1/../v1/events HTTP/1.1',
  'POST /v1/events?access_token=x HTTP/1.1',
  'POST /v1/streams/nosuch/events HTTP/1.1',
  'PUT /v1/events HTTP/1.1',
  'GET /v1/events HTTP/1.1',
  'HEAD /v1/events HTTP/1.1',
  'OPTIONS /v1/events HTTP/1.1',
  'POST /v1/events HTTP/9.9',
  'POST /v1/events%00 HTTP/1.1',
  'POST * HTTP/1.1',
  'POST /v1/sources/nosuch HTTP/1.1',
  'POST /v1/sources/ HTTP/1.1',
  'OPTIONS /v1/sources/github HTTP/1.1',
  '',
] as const
const ODD_HEADERS = [
  'host:',
  'host: a b',
  'content-length: 12',
  'content-length: -1',
  'content-length: 0x10',
  'content-length: 99999999999999999999',
  'transfer-encoding: chunked',
  'transfer-encoding: gzip, chunked',
  'content-encoding: br',
  'content-encoding: gzip',
  'content-type: application/json;',
  'content-type: application/x-ndjson',
  'content-type: text/plain; charset=utf-16',
  'content-type: ',
  'expect: 100-continue',
  'expect: nonsense',
  'connection: upgrade',
  'upgrade: h2c',
  'ce-id: other',
  'ce-specversion: 9',
  'ce-type: ',
  'ce-ext: %',
  'ce-é: é',
  'ce-time: yesterday',
  'ce-data: x',
  'traceparent: 00-0-0-0',
  'x-request-id: a b',
  'authorization: Bearer x',
  'authorization: Bearer kt.fuzz.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  'authorization: Basic eA==',
  'x-api-key: x',
  ' folded: line',
  'no colon',
  ': no name',
  'a b: c',
  'x: \u0000',
  `x: ${'y'.repeat(9_000)}`,
  `${'z'.repeat(70_000)}: 1`,
] as const
const ODD_BYTES = [
  '',
  '\u0000',
  '"',
  '\\',
  '{',
  '}',
  '[',
  ']',
  ',',
  '\n',
  '\r\n',
  '\ufeff',
  '\ud83d',
  '1e999',
  '-0',
  'nul',
  '[[[[[[[[',
  '{"a":'.repeat(100),
  '"id":"x",',
  '\u2028',
] as const
const BEHIND = ['\r\n', '\n', '\u0000', 'x', 'GET / HTTP/1.1\r\n\r\n', '0\r\n\r\n', '\r\n\r\n\r\n', '{}'] as const

type Mutation = (parts: Parts, random: Random) => string

const at = (random: Random, length: number): number => random.integer(0, Math.max(0, length))

const MUTATIONS: readonly [Mutation, ...Mutation[]] = [
  (parts, random) => {
    parts.line = random.pick(ODD_LINES)
    return `line ${parts.line}`
  },
  (parts, random) => {
    const header = random.pick(ODD_HEADERS)
    parts.headers.splice(at(random, parts.headers.length), 0, header)
    return `header ${header.slice(0, 40)}`
  },
  (parts, random) => {
    const [gone] = parts.headers.splice(random.integer(0, parts.headers.length - 1), 1)
    return `without ${gone}`
  },
  (parts, random) => {
    const header = parts.headers[random.integer(0, parts.headers.length - 1)] ?? ''
    parts.headers.push(header)
    return `twice ${header}`
  },
  (parts, random) => {
    const place = at(random, parts.body.length - 1)
    parts.body = Buffer.from(parts.body)
    if (parts.body.length > 0) parts.body[place] = random.integer(0, 255)
    return `byte ${place}`
  },
  (parts, random) => {
    const place = at(random, parts.body.length)
    const inserted = random.pick(ODD_BYTES)
    parts.body = Buffer.concat([parts.body.subarray(0, place), Buffer.from(inserted), parts.body.subarray(place)])
    return `${JSON.stringify(inserted.slice(0, 20))} at ${place}`
  },
  (parts, random) => {
    const [from, to] = [at(random, parts.body.length), at(random, parts.body.length)].sort((a, b) => a - b) as [
      number,
      number,
    ]
    parts.body = Buffer.concat([parts.body.subarray(0, from), parts.body.subarray(to)])
    return `body without ${from} to ${to}`
  },
  (parts, random) => {
    const from = at(random, parts.body.length)
    parts.body = Buffer.concat([parts.body, parts.body.subarray(from)])
    return `body from ${from} again`
  },
  (parts) => {
    parts.framing = 'chunked'
    return 'chunked'
  },
  (parts) => {
    parts.framing = 'chunked'
    parts.trailer = 'x-trailer: 1\r\n'
    return 'trailer'
  },
  (parts) => {
    parts.framing = 'none'
    return 'no length'
  },
  (parts) => {
    parts.lineEnd = '\n'
    return 'line feeds'
  },
  (parts, random) => {
    const behind = random.pick(BEHIND)
    parts.behind = Buffer.from(behind)
    return `behind it ${JSON.stringify(behind)}`
  },
]

const JSON_SHARE = 0.4
const BYTES_SHARE = 0.4
const SIGNED_SHARE = 0.7

/** A text of JSON, or of lines of JSON, changed as JSON. */
function otherJson(body: string, random: Random): string | undefined {
  const lines = body.split('\n')
  const at = random.integer(0, Math.max(0, lines.length - 2))
  const changed = changedJson(lines[at] ?? '', random)
  return changed === undefined ? undefined : [...lines.slice(0, at), changed, ...lines.slice(at + 1)].join('\n')
}

function partsOf(base: Base, key: string, random: Random, made: string[]): Parts {
  const { path = EVENTS_PATH, headers, body, encode, sign } = base
  const other = random.chance(JSON_SHARE) ? otherJson(body, random) : undefined
  if (other !== undefined) made.push('other JSON')
  const bytes = Buffer.from(other ?? body)
  return {
    line: `POST ${path} HTTP/1.1`,
    headers: [
      'host: x',
      ...(random.chance(0.8) ? ['connection: close'] : []),
      ...(path === EVENTS_PATH ? [`authorization: Bearer ${key}`] : []),
      ...headers,
    ],
    framing: 'length',
    lineEnd: '\r\n',
    body: encode === undefined ? bytes : encode(bytes),
    behind: Buffer.alloc(0),
    trailer: '',
    sign,
  }
}

/** Signs what the body has become, with the other headers as they have become. */
function signAgain(parts: Parts): void {
  if (parts.sign === undefined) return
  const headers: Record<string, string> = {}
  for (const line of parts.headers) {
    const colon = line.indexOf(':')
    if (colon > 0) headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim()
  }
  const signature = Object.entries(parts.sign(parts.body, headers))
  const isOld = (line: string): boolean => signature.some(([header]) => line.toLowerCase().startsWith(`${header}:`))
  parts.headers = [
    ...parts.headers.filter((line) => !isOld(line)),
    ...signature.map(([header, value]) => `${header}: ${value}`),
  ]
}

/**
 * A request that differs from a valid one. One in fifty is valid.
 * @param key of the tenant, for events
 */
export function mutated(name: string, key: string, random: Random): Mutated {
  const [kind, of] = random.pick(random.pick(BASES))
  const made = [kind]
  const parts = partsOf(of(name), key, random, made)
  const isValid = random.chance(0.02)
  const byBytes = random.chance(BYTES_SHARE)
  if (!isValid && !byBytes)
    for (let count = random.integer(1, 3); count > 0; count--) made.push(random.pick(MUTATIONS)(parts, random))
  if (random.chance(SIGNED_SHARE)) signAgain(parts)
  let whole = written(parts)
  if (!isValid && byBytes) {
    const [other, ofOther] = random.pick(random.pick(BASES))
    whole = changedBytes(whole, random, written(partsOf(ofOther(name), key, random, [])))
    made.push(`other bytes, some of ${other}`)
  }
  if (random.chance(0.05)) {
    const length = at(random, whole.length)
    whole = whole.subarray(0, length)
    made.push(`cut after ${length}`)
  }
  // Bytes that arrive later than the request before them are under the limits in docs/guarantees.md. Behind a connection's last request, only a trailer is read.
  const isLast = parts.headers.includes('connection: close')
  const isWhole = byBytes || parts.trailer !== '' || (!isLast && (parts.behind.length > 0 || parts.framing === 'none'))
  const split = random.chance(0.3) && !isWhole ? at(random, whole.length) : whole.length
  const halfCloses = random.chance(0.1)
  if (halfCloses) made.push('half-closes')
  if (split < whole.length) made.push(`in two at ${split}`)
  return { name, made: made.join('; '), pieces: [whole.subarray(0, split), whole.subarray(split)], halfCloses }
}

function written({ line, headers, framing, lineEnd, body, behind, trailer }: Parts): Buffer {
  const framed = {
    length: [...headers, `content-length: ${body.length}`],
    chunked: [...headers, 'transfer-encoding: chunked'],
    none: headers,
  }[framing]
  const head = Buffer.from(`${[line, ...framed].join(lineEnd)}${lineEnd}${lineEnd}`)
  const coded =
    framing === 'chunked'
      ? Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from(`\r\n0\r\n${trailer}\r\n`)])
      : body
  return Buffer.concat([head, coded, behind])
}

const LENGTH = /^(content-length: *)(\d+)/im

/** With the length of the body that is there. */
export function withLength(request: Buffer): Buffer {
  const text = bytesToText(request)
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return request
  const head = text.slice(0, end).replace(LENGTH, `$1${text.length - end - 4}`)
  return textToBytes(head + text.slice(end))
}

export const isLengthRight = (request: Buffer): boolean =>
  LENGTH.test(bytesToText(request)) && withLength(request).equals(request)

/** The responses of a connection. */
export interface Answered {
  statuses: number[]
  text: string
  /** Neither answered nor closed within the time. */
  hung: boolean
}

/** How long an answered connection may stay idle. */
const QUIET_MS = 150

/** Sends a request on its own connection, and waits until the connection is closed, or is answered and idle. */
export function send(
  port: number,
  { pieces, halfCloses }: Pick<Mutated, 'pieces' | 'halfCloses'>,
  timeoutMs: number,
): Promise<Answered> {
  const { promise, resolve } = Promise.withResolvers<Answered>()
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  const decoder = new TextDecoder()
  let text = ''
  let quiet: ReturnType<typeof setTimeout> | undefined
  const end = (hung: boolean): void => {
    clearTimeout(quiet)
    clearTimeout(overdue)
    socket.destroy()
    const statuses = [...text.matchAll(/^HTTP\/1\.1 (\d{3})/gm)].map(([, status]) => Number(status))
    resolve({ statuses: statuses.filter((status) => status >= 200), text, hung })
  }
  const overdue = setTimeout(() => end(text === ''), timeoutMs)
  socket.setNoDelay(true)
  socket.on('connect', () => {
    const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = pieces
    socket.write(first)
    setImmediate(() => {
      if (second.length > 0) socket.write(second)
      if (halfCloses) socket.end()
    })
  })
  socket.on('data', (chunk: Buffer) => {
    text += decoder.decode(chunk, { stream: true })
    clearTimeout(quiet)
    if (!/^HTTP\/1\.1 100/.test(text.trimEnd()) || /HTTP\/1\.1 [2-5]/.test(text))
      quiet = setTimeout(() => end(false), QUIET_MS)
  })
  socket.on('end', () => end(false))
  socket.on('close', () => end(false))
  socket.on('error', () => end(false))
  return promise
}
