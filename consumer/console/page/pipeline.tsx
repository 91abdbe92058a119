import { useEffect, useState } from 'preact/hooks'
import type { History } from '../history.ts'
import type { StreamStatus } from '../status.ts'
import { Chart } from './chart.tsx'
import { DEAD_LETTERS_ALERT, deathsIn, faultsOf } from './faults.ts'
import { type Loaded, useLoad, useVisible } from './load.ts'
import { Field, Loading, Problem, Scrolls, State, Time, useFocusKept } from './parts.tsx'
import { linkTo } from './place.ts'
import { client, may, stream } from './session.ts'
import { count, counted, inShort, rate } from './words.ts'

/** Whether all is well with a stream, and if not, where and why. */

const STATUS_EVERY_MS = 2_000
const HISTORY_MINUTES = 60
const HISTORY_EVERY_MS = 15_000

/** What is drawn of the outcomes that come. */
const SHOWN_SECONDS = 300

export function Pipeline() {
  const status = useLoad('status', (signal) => client.value.status(stream.value, signal), STATUS_EVERY_MS)
  const history = useLoad(
    'history',
    (signal) => client.value.history(stream.value, HISTORY_MINUTES, signal),
    HISTORY_EVERY_MS,
  )
  const { value, error, again } = status
  return (
    <>
      <h1>Pipeline of {stream.value}</h1>
      {value === undefined && error === undefined && <Loading what="Loading the status" />}
      {error !== undefined && <Problem error={error} again={again} />}
      {value !== undefined && (
        <Verdict status={value} history={history.value} staleSince={error && status.atMs} again={again} />
      )}
      <Outcomes />
      <LastHour loaded={history} />
      {value !== undefined && <Partitions status={value} isStale={error !== undefined} />}
    </>
  )
}

const RUNBOOK = 'https://github.com/kafkatrace/kafkatrace/blob/main/docs/runbooks/consumer.md'

/** Healthy only where consumers and partitions say so. */
function titleOf({ consumers, partitions, paused }: StreamStatus, worst: 'good' | 'bad' | 'warn'): string {
  if (worst === 'bad') return 'Problems'
  if (worst === 'warn') return paused === undefined ? 'Running, with dead letters' : 'Paused'
  const isKnown =
    consumers.every(({ ready }) => ready === true) &&
    partitions.every(({ state }) => state === 'reading' || state === 'restoring' || state === 'draining')
  return isKnown ? 'Healthy' : 'No problems found, but not all consumers could be asked'
}

function Verdict({
  status,
  history,
  staleSince,
  again,
}: {
  status: StreamStatus
  history: History | undefined
  /** When it was known last; undefined: just now. */
  staleSince: number | undefined
  again: () => void
}) {
  const faults = [...faultsOf(status), ...deathsIn(history)]
  const worst = faults[0]?.tone ?? 'good'
  const { rates, lag, waiting, duplicates } = status
  const dead = history?.minutes.reduce((sum, minute) => sum + minute.dead, 0)
  return (
    <section class={`card verdict ${staleSince === undefined ? worst : 'calm'}`} aria-label="Status">
      <h2>
        {staleSince === undefined ? (
          titleOf(status, worst)
        ) : (
          <>
            Last known status, of <Time iso={new Date(staleSince).toISOString()} />
          </>
        )}
      </h2>
      {faults.length > 0 && (
        <ul>
          {faults.map(({ text, alert }) => (
            <li key={text}>
              <bdi>{text}</bdi> {alert === DEAD_LETTERS_ALERT && <a href={linkTo('letters')}>Dead letters</a>}{' '}
              <a href={`${RUNBOOK}#${alert.toLowerCase()}`}>What to do</a>
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
        <Amount
          name="duplicates"
          value={duplicates === undefined ? '–' : inShort(duplicates)}
          hint="events that came again and were dropped, since the consumers that run now started"
        />
        <Amount name="dead, last hour" value={dead === undefined ? '–' : inShort(dead)} hint="new dead letters" />
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
  const [isActing, setActing] = useState(false)
  useFocusKept([isAsked, status.paused === undefined])
  const perform = async (work: () => Promise<unknown>): Promise<void> => {
    setFailed(undefined)
    setActing(true)
    try {
      await work()
      setAsked(false)
      setReason('')
    } catch (thrown) {
      setFailed(thrown as Error)
    }
    setActing(false)
    again()
  }
  return (
    <div class="act">
      {failed !== undefined && <Problem error={failed} />}
      {status.paused !== undefined ? (
        <p>
          <button
            type="button"
            class="main"
            disabled={isActing}
            onClick={() => perform(() => client.value.resume(stream.value))}
          >
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
          <Field
            isWide
            isFirst
            label="Why pause?"
            value={reason}
            placeholder="database maintenance"
            onInput={setReason}
          />
          <button type="submit" class="danger" disabled={isActing || reason === ''}>
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

/** Rates and latency of the last hour, from the log. */
function LastHour({ loaded: { value, error, again } }: { loaded: Loaded<History> }) {
  // The last minute is not over: its numbers would look like a fall.
  const minutes = value?.minutes.slice(0, -1) ?? []
  const times = minutes.map(({ time }) => Date.parse(time) / 1000)
  const perSecond = (of: 'in' | 'processed' | 'dead'): number[] => minutes.map((minute) => minute[of] / 60)
  const latency = (of: 'p50' | 'p95') => minutes.map(({ latencyMs }) => latencyMs?.[of] ?? null)
  const sum = (of: 'in' | 'processed' | 'dead' | 'retried'): number =>
    (value?.minutes ?? []).reduce((total, minute) => total + minute[of], 0)
  return (
    <section class="card" aria-label="Last hour">
      <div class="title-line">
        <h2>The last hour</h2>
        {value !== undefined && value.minutes.length > 0 && (
          <span class="hint">
            {count(sum('in'))} in, {count(sum('processed'))} processed, {count(sum('retried'))} retried,{' '}
            {count(sum('dead'))} dead
            {value.minutes.some(({ estimated }) => estimated) && '; outcomes are estimated from samples'}
            {!value.complete && '; the oldest minutes are missing'}. This minute is not drawn yet.
          </span>
        )}
      </div>
      {error !== undefined && value === undefined && <Problem error={error} again={again} />}
      {error !== undefined && value !== undefined && <p class="hint">It cannot be read now: {error.message}</p>}
      {value === undefined && error === undefined && <Loading what="Reading the log" />}
      {value !== undefined && value.minutes.length === 0 && (
        <p class="hint">This broker does not search by time, so the last hour cannot be read from the log.</p>
      )}
      {minutes.length > 0 && (
        <div class="halves">
          <Chart
            label="Events a second, by minute"
            times={times}
            series={[
              { name: 'in', tone: 'calm', values: perSecond('in') },
              { name: 'processed', tone: 'good', values: perSecond('processed') },
              { name: 'dead', tone: 'bad', values: perSecond('dead') },
            ]}
          />
          <Chart
            label="Latency to the outcome in milliseconds, by minute"
            times={times}
            series={[
              { name: 'p50, ms', tone: 'good', values: latency('p50') },
              { name: 'p95, ms', tone: 'warn', values: latency('p95') },
            ]}
          />
        </div>
      )}
    </section>
  )
}

interface Second {
  at: number
  /** Absent while the connection is cut: then nothing is known. */
  counts?: { processed: number; dead: number }
}

/** Outcomes by second, since the page was opened. */
function Outcomes() {
  const [seconds, setSeconds] = useState<Second[]>([])
  const [failed, setFailed] = useState<Error | undefined>()
  const [round, setRound] = useState(0)
  // A tab that nobody sees holds no connection.
  const isVisible = useVisible()
  useEffect(() => {
    if (!isVisible) return
    const ending = new AbortController()
    let isConnected = false
    const come = new Map<number, { processed: number; dead: number }>()
    const nowSeconds = (): number => Math.floor(Date.now() / 1000)
    let next = nowSeconds()
    const timer = setInterval(() => {
      const added: Second[] = []
      // By the clock: browsers slow timers down.
      for (; next < nowSeconds(); next++) {
        const counts = come.get(next) ?? (isConnected ? { processed: 0, dead: 0 } : undefined)
        come.delete(next)
        added.push({ at: next, ...(counts && { counts }) })
      }
      if (added.length > 0) setSeconds((old) => [...old, ...added].slice(-SHOWN_SECONDS))
    }, 1_000)
    const follow = async (): Promise<void> => {
      try {
        for await (const { outcome } of client.value.follow(
          stream.value,
          {},
          {
            signal: ending.signal,
            onPosition: () => {
              isConnected = true
            },
            onCut: () => {
              isConnected = false
            },
          },
        )) {
          const at = nowSeconds()
          const counts = come.get(at) ?? { processed: 0, dead: 0 }
          counts[outcome.outcome]++
          come.set(at, counts)
        }
      } catch (error) {
        isConnected = false
        if (!ending.signal.aborted) setFailed(error as Error)
      }
    }
    void follow()
    return () => {
      ending.abort()
      clearInterval(timer)
    }
  }, [isVisible, round])
  const again = (): void => {
    setFailed(undefined)
    setRound((one) => one + 1)
  }
  const sum = (of: 'processed' | 'dead'): number =>
    seconds.reduce((total, { counts }) => total + (counts?.[of] ?? 0), 0)
  const valuesOf = (of: 'processed' | 'dead') => seconds.map(({ counts }) => counts?.[of] ?? null)
  return (
    <section class="card" aria-label="Outcomes">
      <div class="title-line">
        <h2>Outcomes as they come</h2>
        <span class="hint">
          {counted(sum('processed'), 'event')} processed, <a href={linkTo('letters')}>{count(sum('dead'))} dead</a> in
          the last {counted(seconds.filter(({ counts }) => counts !== undefined).length, 'second')}
        </span>
      </div>
      {failed !== undefined && <Problem error={failed} again={again} />}
      <Chart
        label="Outcomes a second, since the page was opened"
        times={seconds.map(({ at }) => at)}
        series={[
          { name: 'processed', tone: 'good', values: valuesOf('processed') },
          { name: 'dead', tone: 'bad', values: valuesOf('dead') },
        ]}
      />
    </section>
  )
}

function Partitions({ status, isStale }: { status: StreamStatus; isStale: boolean }) {
  const most = Math.max(1, ...status.partitions.map(({ lag }) => lag))
  return (
    <div class={isStale ? 'two stale' : 'two'}>
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
