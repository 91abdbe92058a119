import { useState } from 'preact/hooks'
import { FORMATS, ROLES_OF_TOPICS } from '../names.ts'
import type { RecordView } from '../view.ts'
import { browseFilterIn, hasFailures } from './filters.ts'
import { useLoad } from './load.ts'
import { Choice, Empty, Field, Loading, Problem, Time } from './parts.tsx'
import { change, linkTo, place } from './place.ts'
import { RecordDetail } from './record.tsx'
import { type Column, Rows } from './rows.tsx'
import { client, stream } from './session.ts'
import { bytes, count } from './words.ts'

/** The records of a stream's topics, a page at a time. All that is chosen is in the address. */

const TOPICS: Readonly<Record<(typeof ROLES_OF_TOPICS)[number], string>> = {
  input: 'what came in',
  retry: '.retry',
  dlq: '.dlq',
  processed: '.processed',
}

const FIELDS = [
  ['type', 'Type', 'order.*'],
  ['subject', 'Subject', ''],
  ['id', 'Id', ''],
  ['source', 'Source', ''],
  ['header', 'Header', 'NAME:VALUE'],
  ['where', 'Data', '/total=10'],
  ['from', 'From', '2026-01-31T12:00:00Z'],
  ['to', 'Before', '2026-01-31T13:00:00Z'],
] as const
const OF_FAILURES = [
  ['reason', 'Reason', 'out of attempts'],
  ['handler', 'Handler', 'order.placed'],
] as const

const COLUMNS: readonly Column<RecordView>[] = [
  { title: 'time', width: '176px', cell: ({ time }) => <Time iso={time} /> },
  { title: 'place', width: '110px', cell: ({ partition, offset }) => `${partition}/${offset}` },
  {
    title: 'type',
    width: 'minmax(110px, 1fr)',
    cell: ({ event, undecodable }) => <bdi>{event?.type ?? undecodable}</bdi>,
  },
  { title: 'id', width: 'minmax(130px, 1.4fr)', cell: ({ event }) => <bdi>{event?.id}</bdi> },
  { title: 'key', width: 'minmax(80px, 0.8fr)', cell: ({ key }) => <bdi>{key}</bdi> },
  {
    title: 'data',
    width: 'minmax(160px, 2.4fr)',
    cell: ({ data, bytes: size }) => <bdi class="mono">{beginOf(data, size)}</bdi>,
  },
]

/** Of its data, as much as fits in a line. */
function beginOf(data: RecordView['data'], size: number): string {
  switch (data?.format) {
    case 'json':
      return JSON.stringify(data.json).slice(0, 300)
    case 'text':
      return data.text.slice(0, 300)
    case 'hex':
      return data.hex.slice(0, 300)
    case 'masked':
      return '***'
    default:
      return size === 0 ? '' : bytes(size)
  }
}

const placeOf = ({ partition, offset }: RecordView): string => `${partition}/${offset}`

export function Browse() {
  const { parameters } = place.value
  const { open, ...asked } = parameters
  const filter = browseFilterIn(asked)
  const page = useLoad(JSON.stringify(filter), (signal) => client.value.browse(stream.value, filter, signal))
  const { value, error, isLoading, again } = page
  const opened = value?.records.find((record) => placeOf(record) === open)
  return (
    <>
      <h1>Browse</h1>
      <Form key={JSON.stringify(asked)} />
      {error !== undefined && <Problem error={error} again={again} />}
      {isLoading && value === undefined && <Loading what="Reading the log" />}
      {value !== undefined && error === undefined && value.records.length === 0 && (
        <Empty title={value.complete ? 'No such records' : 'None so far'}>
          <p>
            {value.complete
              ? `Nothing in ${TOPICS[filter.topic ?? 'input']} matches.`
              : 'The search ended at a limit before it found any. It goes on where it was.'}
          </p>
        </Empty>
      )}
      {value !== undefined && error === undefined && value.records.length > 0 && (
        <div class={opened === undefined ? '' : 'beside'}>
          <Rows
            label="Records"
            columns={COLUMNS}
            rows={value.records}
            keyOf={placeOf}
            opened={open}
            onOpen={(record) => change({ open: open === placeOf(record) ? '' : placeOf(record) }, 'replace')}
          />
          {opened !== undefined && (
            <aside class="card" aria-label="Record">
              <div class="buttons">
                {opened.role === 'input' && <a href={linkTo('find', { q: placeOf(opened) })}>What became of it</a>}
                {opened.role !== 'input' && opened.event !== undefined && (
                  <a href={linkTo('find', { q: opened.event.id, source: opened.event.source, key: opened.key ?? '' })}>
                    What became of it
                  </a>
                )}
                {opened.role === 'dlq' && <a href={linkTo('letters', { letter: placeOf(opened) })}>The dead letter</a>}
                <button type="button" class="quiet" onClick={() => change({ open: '' }, 'replace')}>
                  close
                </button>
              </div>
              <RecordDetail record={opened} />
            </aside>
          )}
        </div>
      )}
      {value !== undefined && (
        <div class="buttons">
          {asked['cursor'] && (
            <button type="button" onClick={() => change({ cursor: '', open: '' })}>
              First page
            </button>
          )}
          {value.cursor !== undefined && (
            <button type="button" onClick={() => change({ cursor: value.cursor ?? '', open: '' })}>
              {value.complete ? 'Next page' : 'Search on'}
            </button>
          )}
          <button type="button" onClick={again}>
            Read again
          </button>
          <span class="hint">
            {count(value.records.length)} records
            {filter.order === 'newest' ? ', newest first' : ', oldest first'}
            {!value.complete && '. The search ended at a limit'}
          </span>
        </div>
      )}
    </>
  )
}

function Form() {
  const { parameters } = place.value
  const [given, set] = useState<Record<string, string>>(parameters)
  const topic = given['topic'] ?? 'input'
  const submit = (event?: SubmitEvent, more: Record<string, string> = {}): void => {
    event?.preventDefault()
    change({ ...given, ...more, cursor: '', open: '' })
  }
  const fields = [...FIELDS, ...(hasFailures(topic) ? OF_FAILURES : [])]
  return (
    <form class="card form" onSubmit={submit}>
      <Choice
        label="Topic"
        value={topic}
        options={ROLES_OF_TOPICS.map((role) => [role, TOPICS[role]] as const)}
        onChange={(value) => submit(undefined, { topic: value })}
      />
      <Choice
        label="Order"
        value={given['order'] ?? 'newest'}
        options={[
          ['newest', 'newest first'],
          ['oldest', 'oldest first'],
        ]}
        onChange={(value) => submit(undefined, { order: value })}
      />
      {fields.map(([name, label, placeholder]) => (
        <Field
          key={name}
          label={label}
          value={given[name] ?? ''}
          placeholder={placeholder}
          onInput={(value) => set({ ...given, [name]: value })}
        />
      ))}
      <Choice
        label="Data as"
        value={given['format'] ?? 'json'}
        options={FORMATS.map((one) => [one, one] as const)}
        onChange={(value) => submit(undefined, { format: value })}
      />
      <button type="submit" class="main">
        Show
      </button>
    </form>
  )
}
