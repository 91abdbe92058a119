import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import type { Receipt } from '../client.ts'
import { jsonOf, keepsDigits } from '../json.ts'
import { textOf } from './data.tsx'
import { useLoad } from './load.ts'
import { Choice, Empty, Field, Loading, Problem, State, Time } from './parts.tsx'
import { linkTo } from './place.ts'
import { client, may, sends, stream } from './session.ts'

/** Sending one event, and what becomes of it. */

const TEMPLATES: Readonly<Record<string, { type: string; subject: string; data: string }>> = {
  greeting: { type: 'greeting', subject: 'alice', data: '{\n  "hello": "world"\n}' },
  'GitHub issue': {
    type: 'com.github.issues',
    subject: 'octo-org/octo-repo',
    data: JSON.stringify(
      {
        action: 'opened',
        issue: {
          number: 7,
          title: 'It works',
          html_url: 'https://github.com/octo-org/octo-repo/issues/7',
          state: 'open',
          updated_at: '2026-01-31T12:00:00Z',
        },
        repository: { full_name: 'octo-org/octo-repo', html_url: 'https://github.com/octo-org/octo-repo' },
        sender: { login: 'octocat' },
      },
      null,
      2,
    ),
  },
  'no data': { type: 'ping', subject: '', data: '' },
}

const WAIT_SECONDS = 30

/** Pages without TLS have no `crypto.randomUUID`. */
const randomId = (): string =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('')

export function Send() {
  if (!sends())
    return (
      <Empty title="Nothing can be sent from here" isPage>
        <p>The console does not know where the producer is: set PRODUCER_URL.</p>
      </Empty>
    )
  return <Compose />
}

function Compose() {
  const [event, setEvent] = useState({ type: 'greeting', source: '/console', subject: '', id: '', data: '' })
  const [receipt, setReceipt] = useState<(Receipt & { source: string }) | undefined>()
  const [failed, setFailed] = useState<Error | undefined>()
  const [isSending, setSending] = useState(false)
  /** Until a receipt is there: pressed again after an unknown end, it is the same event. */
  const newId = useRef<string | undefined>(undefined)
  const set = (changes: Partial<typeof event>): void => setEvent({ ...event, ...changes })
  const data = useMemo(() => (event.data.trim() === '' ? { value: undefined } : jsonOf(event.data)), [event.data])
  const submit = async (submitted: SubmitEvent): Promise<void> => {
    submitted.preventDefault()
    setSending(true)
    setFailed(undefined)
    setReceipt(undefined)
    const { type, source, subject, id } = event
    newId.current ??= randomId()
    try {
      const sent = await client.value.send(stream.value, {
        id: id || newId.current,
        type,
        source,
        ...(subject && { subject }),
        ...(data?.value !== undefined && { data: data.value }),
      })
      newId.current = undefined
      setReceipt({ ...sent, source })
    } catch (thrown) {
      setFailed(thrown as Error)
    }
    setSending(false)
  }
  return (
    <>
      <h1>Send an event</h1>
      <form class="card" onSubmit={submit}>
        <div class="form">
          <Choice
            label="Template"
            value=""
            options={[['', 'choose one'], ...Object.keys(TEMPLATES).map((name) => [name, name] as const)]}
            onChange={(name) => set(TEMPLATES[name] ?? {})}
          />
          {may('read') && <Recent use={set} />}
        </div>
        <div class="form">
          <Field label="Type" value={event.type} onInput={(type) => set({ type })} />
          <Field label="Source" value={event.source} onInput={(source) => set({ source })} />
          <Field label="Subject" value={event.subject} placeholder="the key" onInput={(subject) => set({ subject })} />
          <Field label="Id" value={event.id} placeholder="a new one" onInput={(id) => set({ id })} />
        </div>
        <div class="field">
          <label for="data">Data, as JSON</label>
          <textarea
            id="data"
            rows={10}
            spellcheck={false}
            dir="ltr"
            value={event.data}
            aria-invalid={data === undefined}
            onInput={({ currentTarget }) => set({ data: currentTarget.value })}
          />
        </div>
        {data === undefined && (
          <p class="bad-text" role="alert">
            This is not JSON yet.
          </p>
        )}
        <div class="buttons">
          <button type="submit" class="main" disabled={isSending || data === undefined || event.type === ''}>
            Send
          </button>
          <span class="hint">to the stream {stream.value}</span>
        </div>
      </form>
      {failed !== undefined && <Problem error={failed} />}
      {receipt !== undefined && <Sent key={`${receipt.partition}/${receipt.offset}`} receipt={receipt} />}
    </>
  )
}

/** One of the newest events, to begin with. */
function Recent({ use }: { use: (event: { type: string; source: string; subject: string; data: string }) => void }) {
  const page = useLoad('recent', (signal) => client.value.browse(stream.value, { limit: 10 }, signal))
  const whole = (page.value?.records ?? []).filter(
    ({ event, data, truncated, headers }) =>
      event !== undefined &&
      truncated !== true &&
      (data === undefined || (data.format === 'json' && keepsDigits)) &&
      !textOf(data).includes('"***"') &&
      !headers.some(
        ({ name, value }) => name === 'content-type' && value?.startsWith('application/cloudevents') === true,
      ),
  )
  return (
    <Choice
      label="Or a recent event"
      value=""
      options={[
        ['', whole.length === 0 ? 'none' : 'choose one'],
        ...whole.map(
          ({ partition, offset, event }) => [`${partition}/${offset}`, `${event?.type} ${event?.id}`] as const,
        ),
      ]}
      onChange={(place) => {
        const record = whole.find(({ partition, offset }) => `${partition}/${offset}` === place)
        const { type = '', source = '', subject = '' } = record?.event ?? {}
        if (record !== undefined) use({ type, source, subject, data: textOf(record.data) })
      }}
    />
  )
}

/** Where it is stored, and its outcome as soon as that is there. */
function Sent({ receipt }: { receipt: Receipt & { source: string } }) {
  const { id, source, partition, offset, time } = receipt
  const [round, setRound] = useState(0)
  const outcome = useLoad(may('read') ? `${id}/${round}` : undefined, (signal) =>
    client.value.outcome(stream.value, id, { wait: WAIT_SECONDS, source }, signal),
  )
  // An outcome that was there before the event is that of an earlier one.
  const isDuplicate = outcome.value?.outcome !== undefined && outcome.value.outcome.time < time
  useEffect(() => document.getElementById('sent')?.scrollIntoView({ block: 'nearest' }), [])
  return (
    <section id="sent" class="card" aria-label="Receipt">
      <h2>Stored</h2>
      <dl>
        <div>
          <dt>id</dt>
          <dd>
            <bdi>{id}</bdi>
          </dd>
        </div>
        <div>
          <dt>receipt</dt>
          <dd>
            {receipt.stream} {partition}/{offset}, <Time iso={time} />
          </dd>
        </div>
        {may('read') && (
          <div>
            <dt>outcome</dt>
            <dd>
              {outcome.isLoading && <Loading what="Waiting for its outcome" />}
              {!outcome.isLoading && outcome.value !== undefined && <State state={outcome.value.state} />}{' '}
              {isDuplicate && 'of the event that was sent with this id before: this one is dropped as a duplicate. '}
              {outcome.value?.outcome?.error !== undefined && (
                <bdi>
                  {outcome.value.outcome.error.reason}: {outcome.value.outcome.error.message}
                </bdi>
              )}
            </dd>
          </div>
        )}
      </dl>
      {outcome.error !== undefined && <Problem error={outcome.error} again={outcome.again} />}
      {may('read') && (
        <div class="buttons">
          <a href={linkTo('find', { at: `${partition}/${offset}` })}>Event history</a>
          {!outcome.isLoading && outcome.value?.outcome === undefined && (
            <button type="button" onClick={() => setRound(round + 1)}>
              Wait longer
            </button>
          )}
        </div>
      )}
    </section>
  )
}
