import { useEffect, useState } from 'preact/hooks'
import { ApiError } from '../client.ts'
import type { StreamStatus } from '../status.ts'
import { Chart } from './chart.tsx'
import { faultsOf } from './faults.ts'
import { useLoad } from './load.ts'
import { Field, Loading, Problem, Scrolls, State, Time } from './parts.tsx'
import { linkTo } from './place.ts'
import { client, may, stream } from './session.ts'
import { count, counted, inShort, rate } from './words.ts'

/** Whether all is well with a stream, and if not, where and why. */

const STATUS_EVERY_MS = 2_000

/** What is drawn of the outcomes that come. */
const SHOWN_SECONDS = 300

export function Pipeline() {
  const status = useLoad('status', () => client.value.status(stream.value), STATUS_EVERY_MS)
  const { value, error, again } = status
  const isUnknown = error instanceof ApiError && error.status === 503
  return (
    <>
      <h1>{stream.value}</h1>
      {value === undefined && error === undefined && <Loading what="Asking Kafka and the consumers" />}
      {error !== undefined && <Problem error={error} again={again} />}
      {value !== undefined && <Verdict status={value} isStale={error !== undefined} again={again} />}
      <Outcomes />
      {value !== undefined && <Partitions status={value} />}
      {isUnknown && value === undefined && <p class="hint">Outcomes are followed without the status.</p>}
    </>
  )
}

const RUNBOOK = 'https://github.com/kafkatrace/kafkatrace/blob/main/docs/runbooks/consumer.md'

function Verdict({ status, isStale, again }: { status: StreamStatus; isStale: boolean; again: () => void }) {
  const faults = faultsOf(status)
  const worst = faults[0]?.tone ?? 'good'
  const { rates, lag, waiting } = status
  return (
    <section class={`card verdict ${isStale ? 'calm' : worst}`} aria-label="Status">
      <h2>
        {isStale
          ? 'As it was last known'
          : faults.length === 0
            ? 'All is well'
            : worst === 'bad'
              ? 'Something is wrong'
              : 'Paused'}
      </h2>
      {faults.length > 0 && (
        <ul>
          {faults.map(({ text, alert }) => (
            <li key={text}>
              <bdi>{text}</bdi> <a href={`${RUNBOOK}#${alert.toLowerCase()}`}>What to do</a>
            </li>
          ))}
        </ul>
      )}
      <div class="numbers">
        <Amount
          name="in"
          value={rates.in === undefined ? '–' : rate(rates.in)}
          hint={`records into the stream, over ${rates.seconds} s`}
        />
        <Amount
          name="done"
          value={rates.done === undefined ? '–' : rate(rates.done)}
          hint="records committed, since the last look"
        />
        <Amount name="lag" value={inShort(lag)} hint="records that no consumer has committed" />
        <Amount name="waiting" value={inShort(waiting)} hint="records in .retry that wait for an attempt" />
      </div>
      {may('operate') && <PauseForm status={status} again={again} />}
    </section>
  )
}

const Amount = ({ name, value, hint }: { name: string; value: string; hint: string }) => (
  <div title={hint}>
    <strong>{value}</strong>
    <span>{name}</span>
  </div>
)

function PauseForm({ status, again }: { status: StreamStatus; again: () => void }) {
  const [reason, setReason] = useState('')
  const [isAsked, setAsked] = useState(false)
  const [failed, setFailed] = useState<Error | undefined>()
  const perform = async (work: () => Promise<unknown>): Promise<void> => {
    setFailed(undefined)
    try {
      await work()
      setAsked(false)
      setReason('')
    } catch (thrown) {
      setFailed(thrown as Error)
    }
    again()
  }
  return (
    <div class="act">
      {failed !== undefined && <Problem error={failed} />}
      {status.paused !== undefined ? (
        <p>
          <button type="button" class="main" onClick={() => perform(() => client.value.resume(stream.value))}>
            Resume
          </button>{' '}
          paused since <Time iso={status.paused.time} />
        </p>
      ) : isAsked ? (
        <form
          class="form"
          onSubmit={(event) => {
            event.preventDefault()
            void perform(() => client.value.pause(stream.value, reason))
          }}
        >
          <Field isWide label="Why pause?" value={reason} placeholder="database maintenance" onInput={setReason} />
          <button type="submit" class="danger" disabled={reason === ''}>
            Pause the stream
          </button>
          <button type="button" onClick={() => setAsked(false)}>
            Cancel
          </button>
        </form>
      ) : (
        <button type="button" onClick={() => setAsked(true)}>
          Pause…
        </button>
      )}
    </div>
  )
}

/** Outcomes by second, since the page was opened. */
function Outcomes() {
  const [seconds, setSeconds] = useState<{ at: number; processed: number; dead: number }[]>([])
  const [failed, setFailed] = useState<Error | undefined>()
  useEffect(() => {
    const ending = new AbortController()
    const now = { processed: 0, dead: 0 }
    let at = Math.floor(Date.now() / 1000)
    const timer = setInterval(() => {
      const { processed, dead } = now
      now.processed = 0
      now.dead = 0
      const mine = at++
      setSeconds((old) => [...old, { at: mine, processed, dead }].slice(-SHOWN_SECONDS))
    }, 1_000)
    const follow = async (): Promise<void> => {
      try {
        for await (const { outcome } of client.value.follow(stream.value, {}, { signal: ending.signal }))
          now[outcome.outcome]++
      } catch (error) {
        if (!ending.signal.aborted) setFailed(error as Error)
      }
    }
    void follow()
    return () => {
      ending.abort()
      clearInterval(timer)
    }
  }, [])
  const sum = (of: 'processed' | 'dead'): number => seconds.reduce((total, one) => total + one[of], 0)
  return (
    <section class="card" aria-label="Outcomes">
      <div class="title-line">
        <h2>Outcomes a second</h2>
        <span class="hint">
          {counted(sum('processed'), 'event')} processed, <a href={linkTo('letters')}>{count(sum('dead'))} dead</a> in
          the last {counted(seconds.length, 'second')}
        </span>
      </div>
      {failed !== undefined && <Problem error={failed} />}
      <Chart
        label="Outcomes a second since the page was opened"
        times={seconds.map(({ at }) => at)}
        series={[
          { name: 'processed', tone: 'good', values: seconds.map(({ processed }) => processed) },
          { name: 'dead', tone: 'bad', values: seconds.map(({ dead }) => dead) },
        ]}
      />
    </section>
  )
}

function Partitions({ status }: { status: StreamStatus }) {
  const most = Math.max(1, ...status.partitions.map(({ lag }) => lag))
  return (
    <div class="two">
      <Scrolls label="Partitions">
        <h2>Partitions</h2>
        <table>
          <thead>
            <tr>
              <th class="amount">partition</th>
              <th>state</th>
              <th class="amount">lag</th>
              <th>
                <span class="unseen">lag, drawn</span>
              </th>
              <th class="amount">waiting</th>
              <th class="amount">committed</th>
              <th class="amount">end</th>
              <th>consumer</th>
            </tr>
          </thead>
          <tbody>
            {status.partitions.map(({ partition, state, reason, lag, waiting, committed, end, consumer }) => (
              <tr key={partition}>
                <td class="amount">{partition}</td>
                <td title={reason}>
                  <State state={state} />
                </td>
                <td class="amount">{count(lag)}</td>
                <td>
                  <meter max={most} value={lag} aria-label={`lag of partition ${partition}`} />
                </td>
                <td class="amount">{count(waiting)}</td>
                <td class="amount">{committed < 0 ? 'none' : count(committed)}</td>
                <td class="amount">{count(end)}</td>
                <td>{consumer}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scrolls>
      <Scrolls label="Consumers">
        <h2>Consumers</h2>
        {status.consumers.length === 0 ? (
          <p class="hint">None.</p>
        ) : (
          <table>
            <thead>
              <tr>
                <th>client id</th>
                <th>host</th>
                <th>ready</th>
                <th>partitions</th>
              </tr>
            </thead>
            <tbody>
              {status.consumers.map(({ clientId, host, ready, faults = [], partitions }) => (
                <tr key={clientId}>
                  <td>{clientId}</td>
                  <td>{host}</td>
                  <td title={faults.join('; ')}>
                    {ready === undefined ? 'not known' : <State state={ready ? 'ready' : 'not ready'} />}
                  </td>
                  <td>{partitions.join(', ') || 'none'}</td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
        <p class="hint">
          Group {status.group.id}, {status.group.state}
        </p>
      </Scrolls>
    </div>
  )
}
