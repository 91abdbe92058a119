import type { ComponentChildren } from 'preact'
import type { RecordView } from '../view.ts'
import { Data } from './data.tsx'
import { Copy, Time } from './parts.tsx'
import { linkTo } from './place.ts'
import type { Column } from './rows.tsx'
import { traceLink } from './session.ts'
import { bytes } from './words.ts'

/** As addresses of the page name a record. */
export const placeOf = ({ partition, offset }: Pick<RecordView, 'partition' | 'offset'>): string =>
  `${partition}/${offset}`

/** The first columns of a list of records. */
export const PLACE_COLUMNS: readonly Column<RecordView>[] = [
  { title: 'time', width: '176px', cell: ({ time }) => <Time iso={time} /> },
  { title: 'partition/offset', width: '120px', cell: placeOf },
]

/** A record in full. */
export function RecordDetail({ record }: { record: RecordView }) {
  const { event } = record
  const rows: [string, ComponentChildren][] = [
    ['place', <code key="place">{`${record.topic}/${record.partition}/${record.offset}`}</code>],
    ['time', <Time key="time" iso={record.time} />],
  ]
  const add = (name: string, value: string | undefined): void => {
    if (value !== undefined) rows.push([name, <Text key={name}>{value}</Text>])
  }
  add('key', record.key)
  add('id', event?.id)
  add('source', event?.source)
  add('type', event?.type)
  add('subject', event?.subject)
  add('sender’s time', event?.time)
  add('content type', event?.datacontenttype)
  add('schema', event?.dataschema)
  if (record.schema !== undefined && event !== undefined)
    rows.push(['checked by', <SchemaLink key="checked" type={event.type} schema={record.schema} />])
  for (const [name, value] of Object.entries(event?.extensions ?? {})) add(`extension ${name}`, value)
  if (record.generation > 0) add('generation', String(record.generation))
  add('origin', record.origin)
  add('redriven from', record.redrivenFrom)
  if (record.edited === true) add('edited', 'changed when it was redriven')
  add('handler', record.handler)
  if (record.traceId !== undefined) rows.push(['trace', <TraceLinks key="trace" traceId={record.traceId} />])
  add('not a CloudEvent', record.undecodable)
  if (record.error !== undefined) add(record.error.reason, record.error.message)
  return (
    <div class="record">
      <dl>
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <Data data={record.data} truncated={record.truncated === true} />
      <details>
        <summary>
          {record.headers.length} headers · {bytes(record.bytes)} of data
        </summary>
        <dl>
          {record.headers.map(({ name, value, hex }, index) => (
            // A record's headers never change, and their names may repeat.
            <div key={index}>
              <dt>{name}</dt>
              <dd>
                <Text>{value ?? hex ?? 'null'}</Text>
              </dd>
            </div>
          ))}
        </dl>
      </details>
    </div>
  )
}

/** Whatever a sender wrote: isolated, so that its direction changes nothing around it. */
export const Text = ({ children }: { children: string }) => (
  <>
    <bdi>{children}</bdi> <Copy text={children} what={children.slice(0, 40)} />
  </>
)

/** A version of a type's schema. */
export const SchemaLink = ({ type, schema }: { type: string; schema: NonNullable<RecordView['schema']> }) => (
  <a href={linkTo('schemas', { type, version: String(schema.version) })}>
    <bdi>{schema.subject}</bdi>, version {schema.version}
  </a>
)

/** The events of a trace, and its spans where these are shown. */
function TraceLinks({ traceId }: { traceId: string }) {
  const spans = traceLink(traceId)
  return (
    <>
      <a href={linkTo('find', { trace: traceId })}>{traceId}</a>
      {spans !== undefined && (
        <>
          {' · '}
          <a href={spans} rel="noreferrer">
            spans
          </a>
        </>
      )}
    </>
  )
}
