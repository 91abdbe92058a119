import { oneLine, only, UsageError } from '../../../shared/service/command-line.ts'
import { table } from '../../../shared/service/table.ts'
import { paint } from '../../../shared/service/terminal.ts'
import type { SchemaUse, StreamSchemas } from '../schemas.ts'
import { argumentsOf, type Command } from './command.ts'
import { count, plural } from './text.ts'

/** Which schemas a stream's types have, and who sends events of which version. */

const HELP = `The schemas of a stream's types, and who sends events of which version.

Usage: bun run kt -- schemas STREAM [--most N]

  --most   as many of the newest records are counted, at most 1,000,000; 10,000 where not given
  --json   the console's answer as JSON, with all senders and the latest documents
  --help   this text

  LATEST   the highest version of the type's schema; – where it has none, ? where that cannot be told now; 2, not 3: version 3 cannot be used
  VERSION  what events were checked by, as their header kt-schema says; none: they have no such header; other: it names another subject
  EVENTS   those among the records that were counted
  SENDERS  the events' sources, those with the most events first

Exit code: 0; 1 when the console refused; 64 for wrong arguments; 69 when the console does not answer.
`

export const schemas: Command = {
  usage: 'schemas STREAM',
  summary: 'schemas of types, and who sends which version',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, { most: { type: 'string' } })
    const stream = only('STREAM', positionals)
    if (values.most !== undefined && !/^[1-9]\d{0,6}$/.test(values.most))
      throw new UsageError(`--most ${values.most}: not a number from 1 to 1000000`)
    const found = await io.client.schemas(
      stream,
      values.most === undefined ? undefined : Number(values.most),
      io.signal,
    )
    if (values.json) io.out(JSON.stringify(found))
    else for (const line of schemaLines(found)) io.out(line)
    return 0
  },
}

function schemaLines(found: StreamSchemas): string[] {
  const { tenant, stream, checks, known, detail, types } = found
  const how =
    checks === undefined
      ? 'events are not checked'
      : `check ${checks.check}, other types ${checks.otherTypes}, while unknown ${checks.whileUnknown}`
  return [
    oneLine(`${tenant}/${stream}: ${how}`),
    ...(known === 'all' || checks === undefined ? [] : [oneLine(detail ?? '')]),
    '',
    ...(types.length === 0
      ? ['No type has a schema, and no event was read.']
      : table(['TYPE', 'LATEST', 'VERSION', 'EVENTS', 'NEWEST', 'SENDERS'], types.flatMap(rowsOf))),
    '',
    paint('dim', oneLine(readText(found.read))),
  ]
}

type TypeSchemas = StreamSchemas['types'][number]

/** Versions that nobody sends are left out, but for the latest. */
function rowsOf({ type, schema, versions, unusable, without, otherwise }: TypeSchemas): string[][] {
  const latest = versions.find(({ draft }) => draft !== undefined)
  const uses: [version: string, use: SchemaUse | undefined][] = [
    ...versions
      .filter((one) => one.use !== undefined || one === latest)
      .map(({ version, use }): [string, SchemaUse | undefined] => [String(version), use]),
    ...(without === undefined ? [] : [['none', without] as [string, SchemaUse]]),
    ...(otherwise === undefined ? [] : [['other', otherwise] as [string, SchemaUse]]),
  ]
  const latestText =
    schema === 'unknown'
      ? '?'
      : latest === undefined
        ? '–'
        : `${latest.version}${unusable === undefined ? '' : `, not ${unusable}`}`
  return uses.map(([version, use]) =>
    [
      type,
      latestText,
      version,
      count(use?.events ?? 0),
      use?.newest ?? '',
      use === undefined ? '' : sendersText(use),
    ].map(oneLine),
  )
}

/** More are in the JSON. */
const SHOWN_SENDERS = 5

function sendersText({ senders, others }: SchemaUse): string {
  const shown = senders.slice(0, SHOWN_SENDERS)
  const hidden = [...senders.slice(SHOWN_SENDERS), ...(others === undefined ? [] : [others])]
  const hiddenSenders = senders.length - shown.length + (others?.senders ?? 0)
  const more = `${count(hiddenSenders)} more ${count(hidden.reduce((sum, { events }) => sum + events, 0))}`
  return [
    ...shown.map(({ source, events }) => `${source} ${count(events)}`),
    ...(hidden.length === 0 ? [] : [more]),
  ].join(', ')
}

function readText({ records, from, to, complete, withoutType, ofOtherTypes }: StreamSchemas['read']): string {
  if (records === 0) return 'the stream has no records'
  const rest = [
    ...(withoutType === 0 ? [] : [`${count(withoutType)} do not say their type in a header`]),
    ...(ofOtherTypes === 0 ? [] : [`${count(ofOtherTypes)} are of further types`]),
  ]
  return [
    `counted ${complete ? `all ${plural(records, 'record')}` : `the newest ${plural(records, 'record')}`}, from ${from} to ${to}`,
    ...rest,
  ].join('; ')
}
