import { useState } from 'preact/hooks'
import { ApiError } from '../client.ts'
import type { GenerationView, Life } from '../life.ts'
import { FORMATS } from '../names.ts'
import type { Progress } from '../progress-lines.ts'
import type { RecordView } from '../view.ts'
import { useDraft } from './draft.ts'
import { useLoad } from './load.ts'
import { momentsOf, waitText } from './moments.ts'
import { Choice, Empty, Field, Loading, Problem, State, Time } from './parts.tsx'
import { change, linkTo, place } from './place.ts'
import { RecordDetail, SchemaLink, Text } from './record.tsx'
import { client, may, stream } from './session.ts'
import { soughtIn, typedIn } from './sought.ts'
import { count, duration } from './words.ts'

/** One event, from its request to its outcome. */

const isMissing = (error: unknown): boolean => error instanceof ApiError && error.kind === 'event-not-found'

export function Find() {
  const sought = soughtIn(place.value.parameters)
  const [progress, setProgress] = useState<Progress | undefined>()
  /** What was typed may be of several kinds: what was said of each. */
  const [missing, setMissing] = useState<readonly string[]>([])
  const found = useLoad(sought.length === 0 ? undefined : JSON.stringify(sought), async (signal) => {
    setMissing([])
    for (const [index, one] of sought.entries()) {
      setProgress(undefined)
      try {
        return await client.value.find(stream.value, one, { signal, onProgress: setProgress })
      } catch (error) {
        if (isMissing(error)) setMissing((before) => [...before, (error as Error).message])
        if (!isMissing(error) || index === sought.length - 1) throw error
      }
    }
    throw new Error('nothing was asked')
  })
  const { value, error, isLoading, again } = found
  return (
    <>
      <h1>Find an event</h1>
      <Form />
      {sought.length === 0 && (
        <Empty title="Find an event and its outcome">
          <p>
            Give its id, the id of its trace, or its receipt, as the producer answered it: PARTITION/OFFSET. Nothing is
            indexed; an id that is a UUIDv7, or the event’s key, makes the search short.
          </p>
        </Empty>
      )}
      {isLoading && (
        <Loading
          what={
            progress === undefined
              ? 'Searching the log'
              : `Searched ${count(progress.searched)} of ${count(progress.of)} records`
          }
        />
      )}
      {!isLoading &&
        error !== undefined &&
        (isMissing(error) ? (
          <Empty title="No such event">
            {missing.map((message) => (
              <p key={message}>
                <bdi>{message}</bdi>
              </p>
            ))}
            <button type="button" onClick={again}>
              Search again
            </button>
          </Empty>
        ) : (
          <Problem error={error} again={again} />
        ))}
      {!isLoading &&
        value?.events.map((life) => (
          <LifeOf key={JSON.stringify(life.generations[0]?.places[0] ?? life.id)} life={life} again={again} />
        ))}
      {!isLoading && value !== undefined && (
        <p class="hint">
          {value.complete
            ? 'Everything that could hold it was searched'
            : 'The search ended at the first that it found'}
          , {value.seconds} s:{' '}
          {value.searched
            .map(({ topic, partition, searched: { from, to } }) => `${topic}/${partition} ${count(from)}–${count(to)}`)
            .join(' · ') || 'nothing had to be searched'}
        </p>
      )}
    </>
  )
}

function Form() {
  const [draft, set] = useDraft()
  const submit = (event: SubmitEvent): void => {
    event.preventDefault()
    change({ ...draft, q: typedIn(draft).trim(), id: '', trace: '', at: '' })
  }
  return (
    <form class="card form" onSubmit={submit}>
      <Field
        isWide
        label="Id, trace or receipt"
        value={typedIn(draft)}
        placeholder="o-1 · 4bf92f3577b34da6a3ce929d0e0e4736 · 4/1207"
        onInput={(value) => set({ q: value, id: '', trace: '', at: '' })}
      />
      <Field
        label="Source"
        value={draft['source'] ?? ''}
        placeholder="any"
        onInput={(value) => set({ source: value })}
      />
      <Field label="Key" value={draft['key'] ?? ''} placeholder="unknown" onInput={(value) => set({ key: value })} />
      <Choice
        label="Data as"
        value={draft['format'] ?? 'json'}
        options={FORMATS.map((one) => [one, one] as const)}
        onChange={(value) => change({ ...draft, format: value })}
      />
      <button type="submit" class="main">
        Find
      </button>
    </form>
  )
}

function LifeOf({ life, again }: { life: Life; again: () => void }) {
  const last = life.generations.at(-1)
  const original = life.generations[0]?.record
  return (
    <section class="card" aria-label={`Event ${life.id ?? ''}`}>
      <div class="title-line">
        <h2>
          <Text>{life.id ?? 'not an event'}</Text>
        </h2>
        <State state={life.state} />
        {(life.state === 'pending' || life.state === 'waiting') && (
          <button type="button" class="quiet" onClick={again}>
            Refresh
          </button>
        )}
      </div>
      <p class="hint">
        <bdi>{[life.type, life.source, life.subject].filter((one) => one !== undefined).join(' · ')}</bdi>
      </p>
      {original?.schema !== undefined && original.event !== undefined && (
        <p class="hint">
          checked by <SchemaLink type={original.event.type} schema={original.schema} />
        </p>
      )}
      {life.generations.map((generation) => (
        <GenerationOf key={generation.generation} of={generation} isOnly={life.generations.length === 1} />
      ))}
      {last?.state === 'dead' && last.outcome !== undefined && last.act === undefined && may('operate') && (
        <a class="button" href={linkTo('letters', { letter: `${last.outcome.partition}/${last.outcome.offset}` })}>
          Redrive or discard it
        </a>
      )}
    </section>
  )
}

function GenerationOf({ of, isOnly }: { of: GenerationView; isOnly: boolean }) {
  const moments = momentsOf(of)
  const [open, setOpen] = useState<RecordView | undefined>(of.outcome ?? of.record)
  const first = moments[0]
  const last = moments.at(-1)
  return (
    <>
      {!isOnly && (
        <h3>
          {of.generation === 0 ? 'As it came in' : `Redrive ${of.generation}`} <State state={of.state} />{' '}
          {of.record?.edited === true && <span class="hint">edited, as {of.record.event?.type}</span>}
        </h3>
      )}
      <div class="life">
        <ol class="timeline">
          {moments.map((moment, index) => {
            const before = moments[index - 1]
            const { record } = moment
            return (
              <li key={index} class={moment.tone}>
                <span class="when">
                  <Time iso={moment.iso} />
                  {before !== undefined && (
                    <span class="after">+{duration(Date.parse(moment.iso) - Date.parse(before.iso))}</span>
                  )}
                </span>
                <span class="what">
                  <bdi>{moment.what}</bdi>
                  {record !== undefined && (
                    <button type="button" class="quiet" aria-pressed={open === record} onClick={() => setOpen(record)}>
                      show the record
                    </button>
                  )}
                </span>
                {moment.detail !== undefined && <bdi class="detail">{moment.detail}</bdi>}
              </li>
            )
          })}
          {of.state === 'pending' && <li class="calm open">No consumer has committed it yet</li>}
          {of.state === 'waiting' && (
            <li class="warn open">
              {waitText(of)}
              {of.waiting !== undefined && <bdi class="detail">{of.waiting.message}</bdi>}
            </li>
          )}
          {of.state === 'unknown' && (
            <li class="calm open">
              It is committed, and no outcome was found: retention has deleted it, or the search ended
            </li>
          )}
          {first !== undefined && last !== undefined && first !== last && (
            <li class="total">{duration(Date.parse(last.iso) - Date.parse(first.iso))} in all</li>
          )}
        </ol>
        {open !== undefined && <RecordDetail record={open} />}
      </div>
    </>
  )
}
