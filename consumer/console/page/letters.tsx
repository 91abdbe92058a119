import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import type { Action, ActRecord, Edit, Job, LetterFilter } from '../acts-log.ts'
import type { Acted, DryRun } from '../client.ts'
import { jsonOf, keepsDigits } from '../json.ts'
import type { LetterGroups } from '../letters.ts'
import { LETTER_STATES } from '../names.ts'
import type { RecordView } from '../view.ts'
import { changesBetween } from './changes.ts'
import { textOf } from './data.tsx'
import { Difference } from './difference.tsx'
import { type ChoiceOf, FilterForm } from './filter-form.tsx'
import { letterFilterIn } from './filters.ts'
import { useLoad } from './load.ts'
import { Empty, Field, Loading, Problem, Scrolls, State, Time, useFocusKept } from './parts.tsx'
import { change, linkTo, place } from './place.ts'
import { PLACE_COLUMNS, placeOf, RecordDetail } from './record.tsx'
import { type Column, Rows } from './rows.tsx'
import { client, may, stream } from './session.ts'
import { beginningOf } from './text.ts'
import { count, counted, duration } from './words.ts'

/** Dead letters: which there are and why, and what is done about them. */

const TABS = [
  ['', 'Letters'],
  ['jobs', 'Jobs'],
  ['acts', 'Audit log'],
] as const

const JOBS_EVERY_MS = 1_000
const IDLE_JOBS_EVERY_MS = 10_000
const MAX_ACTS = 200

export function Letters() {
  const { tab = '', letter } = place.value.parameters
  return (
    <>
      <h1>Dead letters</h1>
      <div class="tabs">
        {TABS.map(([name, title]) => (
          <a key={name} href={linkTo('letters', { tab: name })} aria-current={name === tab ? 'page' : undefined}>
            {title}
          </a>
        ))}
      </div>
      {tab === 'jobs' ? (
        <Jobs />
      ) : tab === 'acts' ? (
        <Acts />
      ) : letter ? (
        <OneLetter key={letter} at={letter} />
      ) : (
        <Groups />
      )}
    </>
  )
}

// ---- all of them, by what went wrong

type Group = LetterGroups['groups'][number]

function Groups() {
  const { parameters } = place.value
  const { state = 'open' } = parameters
  const filter = letterFilterIn(parameters)
  const isNarrow = Object.keys(filter).length > 0
  const groups = useLoad(JSON.stringify([filter, state]), (signal) =>
    client.value.letterGroups(stream.value, { ...filter, state: state as 'open' }, signal),
  )
  /** As it was when the button was pressed: what is counted is what is done. */
  const [asked, setAsked] = useState<{ action: Action; filter: LetterFilter } | undefined>()
  const { value, error, isLoading, again } = groups
  return (
    <>
      <FilterForm fields={FIELDS} last={[STATES]} button="Filter" />
      {error !== undefined && <Problem error={error} again={again} />}
      {isLoading && value === undefined && <Loading what="Counting dead letters" />}
      {value !== undefined && error === undefined && (
        <>
          {value.groups.length === 0 ? (
            <Empty title={state === 'open' ? 'No open dead letters' : 'No dead letters'}>
              <p>{isNarrow ? 'None matches the filter.' : 'Every event so far was processed, or waits to be.'}</p>
            </Empty>
          ) : (
            <Scrolls label="Groups">
              <table>
                <thead>
                  <tr>
                    <th class="amount">letters</th>
                    <th>over time</th>
                    <th>reason</th>
                    <th>type</th>
                    <th>handler</th>
                    <th>state</th>
                    <th>newest</th>
                  </tr>
                </thead>
                <tbody>
                  {value.groups.map((group) => (
                    <GroupRow
                      key={JSON.stringify([group.reason, group.type, group.handler, group.state])}
                      of={value}
                      group={group}
                    />
                  ))}
                </tbody>
              </table>
            </Scrolls>
          )}
          <div class="buttons">
            {may('operate') && state === 'open' && value.letters > 0 && (
              <>
                <button type="button" class="main" onClick={() => setAsked({ action: 'redrive', filter })}>
                  Redrive {isNarrow ? 'all that match' : 'all'}…
                </button>
                <button type="button" class="danger" onClick={() => setAsked({ action: 'discard', filter })}>
                  Discard {isNarrow ? 'all that match' : 'all'}…
                </button>
              </>
            )}
            <button type="button" onClick={again}>
              Refresh
            </button>
            <span class="hint">
              {counted(value.letters, 'letter')}
              {!value.complete && '. The search ended at a limit: the oldest are not counted'}
            </span>
          </div>
          {isNarrow && <LettersOf filter={filter} />}
        </>
      )}
      {asked !== undefined && <JobDialog {...asked} close={() => setAsked(undefined)} />}
    </>
  )
}

function GroupRow({ of, group }: { of: LetterGroups; group: Group }) {
  // Without a type or a handler, the filter would match those of others, too.
  const isFiltered = group.type !== undefined && group.handler !== undefined
  const narrow = isFiltered
    ? linkTo('letters', { reason: group.reason, type: group.type, handler: group.handler, state: group.state })
    : linkTo('browse', { topic: 'dlq', reason: group.reason })
  return (
    <tr>
      <td class="amount">
        <strong>{count(group.count)}</strong>
      </td>
      <td>
        <Bars counts={group.counts} beginnings={of.buckets} />
      </td>
      <td>
        <a href={narrow}>
          <bdi>{group.reason}</bdi>
        </a>
        <div class="hint clip">
          <bdi>{group.message}</bdi>
        </div>
      </td>
      <td>
        <bdi>{group.type ?? 'not a CloudEvent'}</bdi>
      </td>
      <td>
        <bdi>{group.handler}</bdi>
      </td>
      <td>
        <State state={group.state} />
      </td>
      <td>
        <a href={linkTo('letters', { letter: `${group.newest.partition}/${group.newest.offset}` })}>
          <Time iso={group.lastTime} />
        </a>
      </td>
    </tr>
  )
}

/** Counts over time, oldest first. */
function Bars({ counts, beginnings }: { counts: readonly number[]; beginnings: readonly string[] }) {
  const most = Math.max(1, ...counts)
  const width = 120 / Math.max(1, counts.length)
  return (
    <svg
      class="bars"
      viewBox="0 0 120 26"
      role="img"
      aria-label={`${count(counts.reduce((sum, one) => sum + one, 0))} since ${beginnings[0] ?? ''}`}
    >
      <title>
        since {beginnings[0]}, at most {count(most)} at a time
      </title>
      {counts.map((one, index) => (
        <rect
          key={beginnings[index]}
          x={index * width}
          y={26 - (one / most) * 25}
          width={Math.max(1, width - 0.7)}
          height={one === 0 ? 0 : Math.max(1.5, (one / most) * 25)}
        />
      ))}
    </svg>
  )
}

const FIELDS = [
  ['reason', 'Reason', 'out of attempts'],
  ['type', 'Type', 'order.*'],
  ['handler', 'Handler', 'order.placed'],
  ['from', 'From', '2026-01-31T12:00:00Z'],
  ['to', 'Before', '2026-01-31T13:00:00Z'],
] as const

const STATES: ChoiceOf = {
  name: 'state',
  label: 'State',
  value: 'open',
  options: [...LETTER_STATES, 'all'].map((state) => [state, state] as const),
}

const COLUMNS: readonly Column<RecordView>[] = [
  ...PLACE_COLUMNS,
  { title: 'state', width: '100px', cell: ({ state }) => state && <State state={state} /> },
  { title: 'type', width: 'minmax(110px, 1fr)', cell: ({ event }) => <bdi>{event?.type}</bdi> },
  { title: 'id', width: 'minmax(130px, 1.4fr)', cell: ({ event }) => <bdi>{event?.id}</bdi> },
  { title: 'error', width: 'minmax(200px, 2.5fr)', cell: ({ error }) => <bdi>{error?.message}</bdi> },
]

/** The newest that match, in any state. */
function LettersOf({ filter }: { filter: LetterFilter }) {
  const page = useLoad(JSON.stringify(filter), (signal) =>
    client.value.browse(stream.value, { ...filter, topic: 'dlq', limit: 200 }, signal),
  )
  if (page.error !== undefined) return <Problem error={page.error} again={page.again} />
  if (page.value === undefined) return <Loading what="Reading the log" />
  return (
    <>
      <h2>The newest that match, in any state</h2>
      <Rows
        label="Dead letters"
        columns={COLUMNS}
        rows={page.value.records}
        keyOf={placeOf}
        onOpen={(letter) => change({ letter: placeOf(letter) })}
      />
    </>
  )
}

// ---- one

function OneLetter({ at }: { at: string }) {
  const [partition = 0, offset = 0] = at.split('/').map(Number)
  const where = { partition, offset }
  const loaded = useLoad(at, (signal) => client.value.letter(stream.value, where, undefined, signal))
  const [reason, setReason] = useState('')
  const [isEditing, setEditing] = useState(false)
  const [failed, setFailed] = useState<Error | undefined>()
  const [isActing, setActing] = useState(false)
  const { value, error, again } = loaded
  useFocusKept([value?.state, isEditing])
  if (error !== undefined) return <Problem error={error} again={again} />
  if (value === undefined) return <Loading what="Reading the letter" />
  const { letter, state, act } = value
  const perform = async (work: () => Promise<Acted>): Promise<void> => {
    setActing(true)
    setFailed(undefined)
    try {
      const { done, act: earlier } = await work()
      if (done) setEditing(false)
      else
        setFailed(
          new Error(
            `Nothing was done: the letter was ${earlier.act === 'redrive' ? 'redriven' : 'discarded'} by ${earlier.by} before, at ${earlier.time}.`,
          ),
        )
      again()
    } catch (thrown) {
      setFailed(thrown as Error)
    }
    setActing(false)
  }
  const redrive = (edit?: Edit): Promise<void> =>
    perform(() => client.value.redrive(stream.value, where, { reason: reason || undefined, edit }))
  return (
    <section class="card" aria-label="Dead letter">
      <p>
        <a href={linkTo('letters', { ...place.value.parameters, letter: '' })}>Back to the list</a>
      </p>
      <div class="title-line">
        <h2>
          <bdi>{letter.event?.id ?? `Letter ${at}`}</bdi>
        </h2>
        <State state={state} />
        {letter.event !== undefined && (
          <a href={linkTo('find', { id: letter.event.id, source: letter.event.source, key: letter.key })}>
            Event history
          </a>
        )}
      </div>
      {act !== undefined && (
        <p>
          {act.act === 'redrive' ? 'Redriven' : 'Discarded'} by {act.by}
          {act.edited === true && ', edited'}, <Time iso={act.time} />
          {act.reason !== undefined && (
            <>
              : <bdi>{act.reason}</bdi>
            </>
          )}
        </p>
      )}
      {failed !== undefined && <Problem error={failed} />}
      {state === 'open' && may('operate') && (
        <div class="act">
          <Field label="Reason" value={reason} placeholder="why; kept with the act" onInput={setReason} />
          <div class="buttons">
            <button
              type="button"
              class={isEditing ? '' : 'main'}
              disabled={isActing || isEditing}
              title={isEditing ? 'Close the editor to send the letter as it is.' : undefined}
              onClick={() => redrive()}
            >
              Redrive
            </button>
            <button
              type="button"
              disabled={isActing || letter.event === undefined}
              title={letter.event === undefined ? 'The letter is no event, so nothing of it can be edited.' : undefined}
              aria-expanded={isEditing}
              onClick={() => setEditing(!isEditing)}
            >
              {isEditing ? 'Close the editor' : 'Edit and redrive…'}
            </button>
            <button
              type="button"
              class="danger"
              disabled={isActing || reason === ''}
              onClick={() => perform(() => client.value.discard(stream.value, where, reason))}
            >
              Discard
            </button>
            <span class="hint">A discard is final, and needs a reason.</span>
          </div>
        </div>
      )}
      {isEditing && <Editor letter={letter} isActing={isActing} redrive={redrive} />}
      {letter.error !== undefined && (
        <p class="bad-text">
          <strong>{letter.error.reason}</strong> <bdi>{letter.error.message}</bdi>
        </p>
      )}
      {(letter.attempts?.length ?? 0) > 0 && (
        <ol class="timeline">
          {letter.attempts?.map(({ attempt, time, reason: why, message }) => (
            <li key={attempt} class="warn">
              <span class="when">
                <Time iso={time} />
              </span>
              <span class="what">
                Attempt {attempt} failed: <bdi>{why}</bdi>
              </span>
              <bdi class="detail">{message}</bdi>
            </li>
          ))}
        </ol>
      )}
      <RecordDetail record={letter} />
    </section>
  )
}

/** Why the data cannot be edited here without losing some of it; undefined: it can. */
function whyNotEdited({ data, truncated, headers }: RecordView): string | undefined {
  if (truncated === true) return 'The data cannot be edited here: only its beginning is shown.'
  if (data?.format !== 'json') return 'The data cannot be edited here: it is not JSON that is shown.'
  if (headers.some(({ name, value }) => name === 'content-type' && value?.startsWith(STRUCTURED) === true))
    return 'The data cannot be edited here: the event is in structured mode. bun run kt takes a patch of its data.'
  const text = textOf(data)
  if (beginningOf(text).length < text.length)
    return 'The data cannot be edited here: it is too long. bun run kt takes a patch of it.'
  if (!keepsDigits) return 'The data cannot be edited here: this browser would change numbers of many digits.'
  return undefined
}

const STRUCTURED = 'application/cloudevents'
const MASKED = '"***"'

/** The event's data as it is to be sent again, with what was changed. */
function Editor({
  letter,
  isActing,
  redrive,
}: {
  letter: RecordView
  isActing: boolean
  redrive: (edit: Edit) => void
}) {
  const before = useMemo(() => textOf(letter.data), [letter])
  const [text, setText] = useState(before)
  const [type, setType] = useState(letter.event?.type ?? '')
  const cannotEdit = whyNotEdited(letter)
  const parsed = useMemo(() => jsonOf(text), [text])
  const isMasked = before.includes(MASKED)
  /** What is masked is not sent: the changes leave it as it is. */
  const dataOf = (value: unknown): Edit =>
    isMasked ? { patch: changesBetween(jsonOf(before)?.value, value) } : { data: value }
  const isChanged = text !== before || type !== (letter.event?.type ?? '')
  return (
    <div class="editor">
      <Field label="Type" value={type} onInput={setType} />
      {cannotEdit !== undefined && <p class="hint">{cannotEdit}</p>}
      {isMasked && cannotEdit === undefined && (
        <p class="hint">Only what you change is sent. Values shown as *** stay as they are.</p>
      )}
      {cannotEdit === undefined && (
        <div class="field">
          <label for="data">Data, as JSON</label>
          <textarea
            id="data"
            rows={Math.min(24, Math.max(6, text.split('\n').length + 1))}
            spellcheck={false}
            dir="ltr"
            value={text}
            aria-invalid={parsed === undefined}
            onInput={({ currentTarget }) => setText(currentTarget.value)}
          />
        </div>
      )}
      {cannotEdit === undefined && parsed === undefined && (
        <p class="bad-text" role="alert">
          This is not JSON yet.
        </p>
      )}
      {text !== before && <Difference title="what is changed" before={before} after={text} />}
      <div class="buttons">
        <button
          type="button"
          class="main"
          disabled={isActing || !isChanged || (text !== before && parsed === undefined)}
          onClick={() =>
            redrive({
              ...(text === before ? {} : dataOf(parsed?.value)),
              ...(type === (letter.event?.type ?? '') ? {} : { type }),
            })
          }
        >
          Redrive as edited
        </button>
      </div>
    </div>
  )
}

// ---- many

/** Counts first, and names the count on the button. */
function JobDialog({ action, filter, close }: { action: Action; filter: LetterFilter; close: () => void }) {
  const box = useRef<HTMLDialogElement>(null)
  const dry = useLoad<DryRun>('dry', (signal) => client.value.dryRun(stream.value, { action, filter }, signal))
  const [rate, setRate] = useState('100')
  const [reason, setReason] = useState('')
  const [failed, setFailed] = useState<Error | undefined>()
  const [isStarting, setStarting] = useState(false)
  useEffect(() => box.current?.showModal(), [])
  const word = action === 'redrive' ? 'Redrive' : 'Discard'
  const isRate = Number(rate) > 0 && Number(rate) <= 10_000
  const start = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault()
    setStarting(true)
    setFailed(undefined)
    try {
      await client.value.startJob(stream.value, {
        action,
        filter,
        ratePerSecond: Number(rate),
        ...(reason && { reason }),
      })
      // Closed meanwhile: whoever did that is somewhere else.
      if (box.current !== null) location.hash = linkTo('letters', { tab: 'jobs' })
    } catch (thrown) {
      setFailed(thrown as Error)
      setStarting(false)
    }
  }
  const matches = dry.value?.matches
  return (
    <dialog ref={box} onClose={close} aria-label={`${word} dead letters`}>
      <form onSubmit={start}>
        <h2>{word} dead letters</h2>
        <dl>
          {Object.entries(filter).map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>
                <bdi>{value}</bdi>
              </dd>
            </div>
          ))}
        </dl>
        {dry.error !== undefined && <Problem error={dry.error} again={dry.again} />}
        {matches === undefined && dry.error === undefined && <Loading what="Counting the letters that match" />}
        {matches !== undefined && (
          <p>
            <strong>{counted(matches, 'open letter')}</strong> {matches === 1 ? 'matches' : 'match'} now
            {dry.value?.complete === false && ', as far as was counted'}.{' '}
            {action === 'redrive'
              ? isRate && `At this rate, that takes ${duration((matches / Number(rate)) * 1000)}.`
              : 'A discard is final: they cannot be redriven afterwards.'}
          </p>
        )}
        <Field label="Letters a second" type="number" value={rate} isInvalid={!isRate} onInput={setRate} />
        {!isRate && <p class="bad-text">More than 0 and at most 10,000.</p>}
        {action === 'discard' && reason === '' && <p class="hint">A discard needs a reason.</p>}
        <Field label="Reason" value={reason} placeholder="why; kept with the job" onInput={setReason} />
        {failed !== undefined && <Problem error={failed} />}
        <div class="buttons">
          <button
            type="submit"
            class={action === 'redrive' ? 'main' : 'danger'}
            disabled={
              isStarting || !isRate || matches === undefined || matches === 0 || (action === 'discard' && reason === '')
            }
          >
            {word}{' '}
            {matches !== undefined &&
              `${dry.value?.complete === false ? 'at least ' : ''}${counted(matches, 'letter')}`}
          </button>
          <button type="button" disabled={isStarting} onClick={() => box.current?.close()}>
            Cancel
          </button>
        </div>
      </form>
    </dialog>
  )
}

function Jobs() {
  const [isAnyRunning, setAnyRunning] = useState(true)
  const { value, error, again } = useLoad(
    'jobs',
    (signal) => client.value.jobs(stream.value, signal),
    isAnyRunning ? JOBS_EVERY_MS : IDLE_JOBS_EVERY_MS,
  )
  useEffect(() => setAnyRunning(value === undefined || value.some(({ state }) => state === 'running')), [value])
  if (value === undefined)
    return error === undefined ? <Loading what="Loading jobs" /> : <Problem error={error} again={again} />
  return (
    <>
      {error !== undefined && <Problem error={error} again={again} />}
      {value.length === 0 && (
        <Empty title="No jobs">
          <p>A job redrives or discards all letters that a filter matches.</p>
        </Empty>
      )}
      {value.map((job) => (
        <JobCard key={job.id} job={job} again={again} />
      ))}
    </>
  )
}

/** Of a job, as an address has it. */
const filterOf = (filter: LetterFilter): Record<string, string> =>
  Object.fromEntries(Object.entries(filter).map(([name, value]) => [name, String(value)]))

function JobCard({ job, again }: { job: Job; again: () => void }) {
  const [failed, setFailed] = useState<Error | undefined>()
  const cancel = async (): Promise<void> => {
    try {
      await client.value.cancelJob(stream.value, job.id)
      again()
    } catch (thrown) {
      setFailed(thrown as Error)
    }
  }
  const words = Object.entries(job.filter).map(([name, value]) => `${name} ${value}`)
  return (
    <section class="card" aria-label={`Job ${job.id}`}>
      <div class="title-line">
        <h2>{job.action === 'redrive' ? 'Redrive' : 'Discard'}</h2>
        <State state={job.state} />
        <span class="hint">
          by {job.by}, <Time iso={job.time} />
        </span>
        {job.state === 'running' && may('operate') && (
          <button type="button" class="danger" onClick={cancel}>
            Cancel
          </button>
        )}
      </div>
      <p class="hint">
        <bdi>{[...words, job.reason].filter(Boolean).join(' · ') || 'all letters'}</bdi>
      </p>
      <progress max={Math.max(1, job.of)} value={job.looked} aria-label="progress" />
      <p>
        <strong>{counted(job.acted, 'letter')}</strong> {job.action === 'redrive' ? 'redriven' : 'discarded'}, at most{' '}
        {count(job.ratePerSecond)} a second · {count(job.looked)} of {count(job.of)} offsets looked at
        {job.endedAt !== undefined && (
          <>
            {' '}
            · ended <Time iso={job.endedAt} /> {job.endedBy !== undefined && `by ${job.endedBy}`}
          </>
        )}
        {job.detail !== undefined && (
          <>
            {' '}
            · <bdi>{job.detail}</bdi>
          </>
        )}
      </p>
      {job.action === 'redrive' && job.acted > 0 && (
        <p>
          <a href={linkTo('letters', { ...filterOf(job.filter) })}>Open letters that match now</a>, with those that died
          again
        </p>
      )}
      {failed !== undefined && <Problem error={failed} />}
    </section>
  )
}

// ---- what was done

function Acts() {
  const acts = useLoad('acts', (signal) => client.value.acts(stream.value, MAX_ACTS, signal))
  const { value, error, again } = acts
  if (value === undefined)
    return error === undefined ? <Loading what="Loading the audit log" /> : <Problem error={error} again={again} />
  if (value.acts.length === 0)
    return (
      <Empty title="No entries yet">
        <p>Redrives, discards, jobs, pauses and resumes stand here, with who did them and why.</p>
      </Empty>
    )
  return (
    <Scrolls label="Acts">
      <table>
        <thead>
          <tr>
            <th>time</th>
            <th>by</th>
            <th>act</th>
            <th>of</th>
            <th>reason</th>
          </tr>
        </thead>
        <tbody>
          {value.acts.map((act) => (
            <tr key={act.id}>
              <td>
                <Time iso={act.time} />
              </td>
              <td>{act.by}</td>
              <td>{act.act}</td>
              <td>{wordsOf(act)}</td>
              <td>
                <bdi>{'reason' in act ? act.reason : ''}</bdi>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {!value.complete && <p class="hint">Older acts are not shown.</p>}
    </Scrolls>
  )
}

/** What an act is of. */
function wordsOf(act: ActRecord) {
  switch (act.act) {
    case 'redrive':
    case 'discard': {
      const [first] = act.letters
      const edited = act.edit === undefined ? '' : ', edited'
      if (act.letters.length !== 1 || first === undefined) return `${counted(act.letters.length, 'letter')}${edited}`
      return (
        <>
          <a href={linkTo('letters', { letter: `${first[0]}/${first[1]}` })}>
            letter {first[0]}/{first[1]}
          </a>
          {edited}
        </>
      )
    }
    case 'job':
      return `${act.action} ${
        Object.entries(act.filter)
          .map(([name, value]) => `${name} ${value}`)
          .join(', ') || 'all letters'
      }`
    case 'job-end':
      return act.detail ?? act.state
    default:
      return 'the stream'
  }
}
