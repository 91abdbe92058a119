import { useEffect, useRef, useState } from 'preact/hooks'
import { ApiError, type OutcomeFilter } from '../client.ts'
import type { Outcome } from '../follow.ts'
import { type ChoiceOf, FilterForm } from './filter-form.tsx'
import { useVisible } from './load.ts'
import { Empty, Problem, State, Time } from './parts.tsx'
import { go, linkTo, place } from './place.ts'
import { type Column, Rows } from './rows.tsx'
import { client, stream } from './session.ts'
import { count, counted, duration, rate } from './words.ts'

/** Outcomes as they are committed. */

/** Older ones are forgotten. */
const MAX_ROWS = 10_000

/** So long after a pointer was moved on the rows, they stay where they are. */
const HELD_MS = 2_000

/** Outcomes that came since are drawn so often, however many they are. */
const DRAWN_EVERY_MS = 250

const COLUMNS: readonly Column<Outcome>[] = [
  { title: 'time', width: '130px', cell: ({ time }) => <Time iso={time} /> },
  { title: 'outcome', width: '104px', cell: ({ outcome }) => <State state={outcome} /> },
  { title: 'type', width: 'minmax(120px, 1fr)', cell: ({ type }) => <bdi>{type}</bdi> },
  { title: 'id', width: 'minmax(140px, 1.4fr)', cell: ({ id }) => <bdi>{id}</bdi> },
  { title: 'key', width: 'minmax(80px, 0.8fr)', cell: ({ key }) => <bdi>{key}</bdi> },
  {
    title: 'handler',
    width: 'minmax(100px, 1fr)',
    cell: ({ handler, error }) => <bdi>{handler ?? error?.handler}</bdi>,
  },
  {
    title: 'error',
    width: 'minmax(160px, 2fr)',
    cell: ({ error, failedAttempts, generation }) => (
      <bdi>
        {[
          error && `${error.reason}: ${error.message}`,
          failedAttempts && counted(failedAttempts, 'failed attempt'),
          generation > 0 && `redrive ${generation}`,
        ]
          .filter(Boolean)
          .join(' · ')}
      </bdi>
    ),
  },
]

const keyOf = ({ outcome, partition, offset }: Outcome): string => `${outcome}/${partition}/${offset}`

const FIELDS = [
  ['type', 'Type', 'order.*'],
  ['id', 'Id', ''],
  ['key', 'Key', ''],
  ['reason', 'Reason', 'out of attempts'],
] as const

const OUTCOMES: ChoiceOf = {
  name: 'outcome',
  label: 'Outcome',
  value: '',
  options: [
    ['', 'any'],
    ['processed', 'processed'],
    ['dead', 'dead'],
  ],
}

export function Live() {
  const { outcome = '', type = '', id = '', key = '', reason = '' } = place.value.parameters
  const filter: OutcomeFilter = {
    ...(outcome === 'processed' || outcome === 'dead' ? { outcome } : {}),
    ...(type && { type }),
    ...(id && { id }),
    ...(key && { key }),
    ...(reason && { reason }),
  }
  const [rows, setRows] = useState<Outcome[]>([])
  const [isPaused, setPaused] = useState(false)
  const [round, setRound] = useState(0)
  // A tab that nobody sees holds no connection; what it misses comes once it is seen.
  const isVisible = useVisible()
  const [cut, setCut] = useState<{ reason: string; waitMs: number } | undefined>()
  const [error, setError] = useState<Error | undefined>()
  const [seen, setSeen] = useState({ total: 0, perSecond: 0, held: 0 })
  const [isConnected, setConnected] = useState(false)
  /** Until then rows do not move under a pointer, so that one can be clicked however many come. */
  const heldUntilMs = useRef(0)
  /** Where it stopped: what came meanwhile comes when it goes on. */
  const position = useRef<string | undefined>(undefined)
  const asked = JSON.stringify(filter)
  const before = useRef(asked)
  useEffect(() => {
    if (before.current !== asked) {
      before.current = asked
      setRows([])
      setSeen({ total: 0, perSecond: 0, held: 0 })
    }
    if (isPaused || !isVisible) return
    const ending = new AbortController()
    /** Not drawn yet. */
    const come: Outcome[] = []
    let seenOfThese = 0
    const recent: [atMs: number, count: number][] = []
    setError(undefined)
    setConnected(false)
    const draw = (): void => {
      const nowMs = performance.now()
      const added = come.length - seenOfThese
      recent.push([nowMs, added])
      while ((recent[0]?.[0] ?? nowMs) < nowMs - 5_000) recent.shift()
      const since = Math.max(1_000, nowMs - (recent[0]?.[0] ?? nowMs))
      const perSecond = recent.reduce((sum, [, one]) => sum + one, 0) / (since / 1000)
      come.splice(0, come.length - MAX_ROWS)
      seenOfThese = come.length
      const isHeld = performance.now() < heldUntilMs.current
      const held = isHeld ? come.length : 0
      setSeen((one) =>
        one.perSecond === perSecond && added === 0 && one.held === held
          ? one
          : { total: one.total + added, perSecond, held },
      )
      if (isHeld || come.length === 0) return
      const some = come.splice(0).reverse()
      seenOfThese = 0
      setRows((old) => [...some, ...old].slice(0, MAX_ROWS))
    }
    const timer = setInterval(draw, DRAWN_EVERY_MS)
    const follow = async (): Promise<void> => {
      try {
        for await (const { outcome: one } of client.value.follow(stream.value, filter, {
          since: position.current,
          signal: ending.signal,
          onPosition: (at) => {
            position.current = at
            setConnected(true)
            setCut(undefined)
          },
          onCut: (why, waitMs) => setCut({ reason: why, waitMs }),
        }))
          come.push(one)
      } catch (thrown) {
        if (!ending.signal.aborted) setError(thrown as Error)
      }
    }
    void follow()
    return () => {
      ending.abort()
      clearInterval(timer)
      // What came is not lost with a pause.
      heldUntilMs.current = 0
      draw()
    }
  }, [asked, isPaused, isVisible, round])
  const again = (): void => {
    if (error instanceof ApiError && error.kind === 'unknown-position') position.current = undefined
    setRound((one) => one + 1)
  }
  return (
    <>
      <div class="title-line">
        <h1>Live</h1>
        <button type="button" onClick={() => setPaused(!isPaused)} disabled={!isPaused && !isConnected}>
          {isPaused ? 'Resume' : 'Pause'}
        </button>
        <button type="button" onClick={() => setRows([])} disabled={rows.length === 0}>
          Clear
        </button>
        <span class="hint" role={isPaused || cut !== undefined ? 'status' : undefined}>
          {isPaused
            ? 'Paused. Missed outcomes are loaded when you resume.'
            : cut !== undefined
              ? `The connection was cut: ${cut.reason}. Connecting again in ${duration(cut.waitMs)}.`
              : !isConnected
                ? 'Connecting'
                : `${count(seen.total)} since this was opened · ${rate(seen.perSecond)}${seen.held > 0 ? ` · ${counted(seen.held, 'row')} to come when the pointer rests` : ''}`}
        </span>
      </div>
      <FilterForm first={[OUTCOMES]} fields={FIELDS} button="Filter" />
      {error !== undefined && <Problem error={error} again={again} />}
      {rows.length === 0 && error === undefined ? (
        <Empty title={isPaused ? 'Paused' : 'Waiting for outcomes'}>
          <p>Outcomes appear as soon as they are committed.</p>
        </Empty>
      ) : (
        <div
          onPointerMove={() => {
            heldUntilMs.current = performance.now() + HELD_MS
          }}
          onPointerLeave={() => {
            heldUntilMs.current = 0
          }}
        >
          <Rows
            label="Outcomes"
            columns={COLUMNS}
            rows={rows}
            keyOf={keyOf}
            onOpen={({ id: of, source, key: by, partition, offset, outcome: kind }) => {
              if (of !== undefined) go(linkTo('find', { id: of, source, key: by }))
              else if (kind === 'dead') go(linkTo('letters', { letter: `${partition}/${offset}` }))
            }}
          />
        </div>
      )}
    </>
  )
}
