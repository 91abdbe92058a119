import { useEffect } from 'preact/hooks'
import { FORMATS, ROLES_OF_TOPICS } from '../names.ts'
import type { RecordView } from '../view.ts'
import { FilterForm } from './filter-form.tsx'
import { browseFilterIn, hasFailures } from './filters.ts'
import { useLoad } from './load.ts'
import { Empty, Loading, Problem } from './parts.tsx'
import { change, linkTo, place } from './place.ts'
import { PLACE_COLUMNS, placeOf, RecordDetail } from './record.tsx'
import { type Column, Rows } from './rows.tsx'
import { client, stream } from './session.ts'
import { bytes, count } from './words.ts'

/** In a narrow window, what was opened stands below. */
const seen = (element: HTMLElement | null): void => element?.scrollIntoView({ block: 'nearest' })

/** The records of a stream's topics, a page at a time. All that is chosen is in the address. */

const TOPICS: Readonly<Record<(typeof ROLES_OF_TOPICS)[number], string>> = {
  input: 'input topic',
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
  ['partition', 'Partition', ''],
  ['offset', 'From offset', ''],
  ['from', 'From', '2026-01-31T12:00:00Z'],
  ['to', 'Before', '2026-01-31T13:00:00Z'],
] as const
const OF_FAILURES = [
  ['reason', 'Reason', 'out of attempts'],
  ['handler', 'Handler', 'order.placed'],
] as const

const COLUMNS: readonly Column<RecordView>[] = [
  ...PLACE_COLUMNS,
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

export function Browse() {
  const { parameters } = place.value
  const { open, ...asked } = parameters
  const filter = browseFilterIn(asked)
  const page = useLoad(JSON.stringify(filter), (signal) => client.value.browse(stream.value, filter, signal))
  const { value, error, isLoading, again } = page
  const listed = value?.records.find((record) => placeOf(record) === open)
  // An address that was shared may be of a record that is on another page by now.
  const elsewhere = useLoad(open && value !== undefined && listed === undefined ? open : undefined, async (signal) => {
    const [partition, offset] = (open ?? '').split('/').map(Number)
    const { topic = 'input', format = 'json' } = filter
    const at = { topic, format, partition: partition ?? 0, offset: offset ?? 0, order: 'oldest' as const, limit: 1 }
    return (await client.value.browse(stream.value, at, signal)).records.find((record) => placeOf(record) === open)
  })
  const opened = listed ?? elsewhere.value
  useEffect(() => {
    if (!open) return
    const onKey = ({ key }: KeyboardEvent): void => {
      if (key === 'Escape') change({ open: '' }, 'replace')
    }
    addEventListener('keydown', onKey)
    return () => removeEventListener('keydown', onKey)
  }, [open])
  return (
    <>
      <h1>Browse</h1>
      <Form />
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
      {value !== undefined && error === undefined && (value.records.length > 0 || opened !== undefined) && (
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
            <aside class="card" aria-label="Record" ref={seen}>
              <div class="buttons">
                {opened.role === 'input' && <a href={linkTo('find', { at: placeOf(opened) })}>Event history</a>}
                {opened.role !== 'input' && opened.event !== undefined && (
                  <a href={linkTo('find', { id: opened.event.id, source: opened.event.source, key: opened.key ?? '' })}>
                    Event history
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
              {value.complete ? 'Next page' : 'Continue search'}
            </button>
          )}
          <button type="button" onClick={again}>
            Refresh
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

const ORDERS = [
  ['newest', 'newest first'],
  ['oldest', 'oldest first'],
] as const

const Form = () => (
  <FilterForm
    first={[
      {
        name: 'topic',
        label: 'Topic',
        value: 'input',
        options: ROLES_OF_TOPICS.map((role) => [role, TOPICS[role]] as const),
      },
      { name: 'order', label: 'Order', value: 'newest', options: ORDERS },
    ]}
    fields={[...FIELDS, ...(hasFailures(place.value.parameters['topic'] ?? 'input') ? OF_FAILURES : [])]}
    last={[{ name: 'format', label: 'Data as', value: 'json', options: FORMATS.map((one) => [one, one] as const) }]}
    button="Show"
    resets={{ cursor: '', open: '' }}
  />
)
