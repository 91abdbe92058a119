import { ProblemError } from '../../shared/http/problem.ts'
import type { Fields } from './fields.ts'
import { defineKind, Secrets } from './kind.ts'
import { holdsSecret, sha256 } from './signature.ts'

/**
 * OpenTelemetry logs, an event a line: OTLP/JSON (`{"resourceLogs":[…]}`), as the Collector's exporters `file` and `otlphttp` write it, or one record a line. An
 * id is the hash of its line, so that a repeated request has the same ids; a line that comes again in its request is numbered.
 * Sources: opentelemetry.io, "OTLP Specification", "OpenTelemetry Protocol File Exporter" and "Logs Data Model"; vector.dev, sink `http`; docs.fluentbit.io,
 * output `http`.
 */
export const otelLogs = defineKind({
  name: 'otel-logs',
  // OTEL_EXPORTER_OTLP_TIMEOUT of the SDKs; others wait longer.
  timeoutMs: 10_000,
  options: { secrets: Secrets },
  verify: (webhook, { secrets }) => holdsSecret(webhook, secrets),
  *identify(webhook) {
    if (webhook.isForm) throw new ProblemError({ kind: 'unsupported-media-type', detail: NO_FORM })
    const seen = new Map<string, number>()
    for (const line of linesOf(webhook.body)) {
      const hash = sha256(line)
      const times = (seen.get(hash) ?? 0) + 1
      seen.set(hash, times)
      const fields = webhook.parse(line)
      yield {
        id: times === 1 ? hash : `${hash}-${times}`,
        type: 'io.opentelemetry.logs',
        subject: serviceOf(fields),
        time: timeOf(fields),
        data: line,
      }
    }
  },
  /** OTLP has 200, with an `ExportLogsServiceResponse`, which is empty when all was taken. */
  respond: () => ({ status: 200, headers: { 'content-type': 'application/json' }, body: '{}' }),
})

const NO_FORM = 'A form has no lines: send them as application/x-ndjson or application/json.'

/** Line feeds part lines; blank ones are none. */
function* linesOf(body: Buffer): Generator<Buffer> {
  for (let from = 0; from < body.length; ) {
    const feed = body.indexOf(0x0a, from)
    const end = feed === -1 ? body.length : feed
    const begin = from
    from = end + 1
    let first = begin
    while (first < end && BLANKS.has(body[first] as number)) first++
    if (first === end) continue
    if (body[first] !== OPEN_BRACE) throw new ProblemError({ kind: 'malformed', detail: NO_OBJECT })
    yield body.subarray(begin, end)
  }
}

const BLANKS = new Set([0x20, 0x09, 0x0d])
const OPEN_BRACE = 0x7b
const NO_OBJECT = 'Each line must be a JSON object: an array, or JSON over several lines, is none.'

/** `service.name` of the resource: in OTLP of the first one, else where Vector and others put it. */
function serviceOf(line: Fields): string | undefined {
  for (const at of ['/resourceLogs/0/resource/attributes', '/resource/attributes', '/attributes'])
    for (let index = 0; index < line.count(at); index++)
      if (line.text(`${at}/${index}/key`) === 'service.name') return line.text(`${at}/${index}/value/stringValue`)
  return (
    line.text('/resource/attributes/service.name') ??
    line.text('/resource/service.name') ??
    line.text('/resources/service.name') ??
    line.text('/attributes/service.name')
  )
}

/** Of the first record; where it has none, when it was observed, as the data model recommends. Else as Vector and Fluent Bit name it. */
function timeOf(line: Fields): string | undefined {
  for (const at of ['/resourceLogs/0/scopeLogs/0/logRecords/0', ''])
    for (const member of ['timeUnixNano', 'observedTimeUnixNano']) {
      const time = nanoTime(line.text(`${at}/${member}`))
      if (time !== undefined) return time
    }
  return line.text('/timestamp') ?? line.text('/date')
}

/** RFC 3339 with all nine digits: the nanoseconds since 1970 are beyond 2^53. */
function nanoTime(nanoseconds: string | undefined): string | undefined {
  // 0 is none.
  if (nanoseconds === undefined || !/^[1-9]\d{9,19}$/.test(nanoseconds)) return undefined
  const seconds = Number(nanoseconds.slice(0, -9))
  return `${new Date(seconds * 1_000).toISOString().slice(0, 19)}.${nanoseconds.slice(-9)}Z`
}
