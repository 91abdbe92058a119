import type { SchemaDocument, SchemaUse, StreamSchemas } from '../schemas.ts'
import { Data, textOf } from './data.tsx'
import { Difference } from './difference.tsx'
import { useLoad } from './load.ts'
import { Choice, Empty, Loading, Problem, Scrolls, Time } from './parts.tsx'
import { change, linkTo, place } from './place.ts'
import { Text } from './record.tsx'
import { client, stream } from './session.ts'
import { count, counted } from './words.ts'

/** The schemas of a stream's types: which versions there are, and who sends events of which. */

type TypeSchemas = StreamSchemas['types'][number]

const MOST = ['10000', '100000', '1000000'] as const

export function Schemas() {
  const { type, most = MOST[0] } = place.value.parameters
  const { value, error, isLoading, again } = useLoad(most, (signal) =>
    client.value.schemas(stream.value, Number(most), signal),
  )
  const chosen = value?.types.find((one) => one.type === type)
  return (
    <>
      <h1>Schemas of {stream.value}</h1>
      {error !== undefined && <Problem error={error} again={again} />}
      {value === undefined && isLoading && <Loading what="Reading the newest events" />}
      {value !== undefined && error === undefined && (
        <>
          <Checks of={value} />
          <div class="title-line counting">
            <Choice
              label="Count the newest"
              value={most}
              options={MOST.map((one) => [one, `${count(Number(one))} records`] as const)}
              onChange={(chosenMost) => change({ most: chosenMost })}
            />
            <button type="button" onClick={again}>
              Refresh
            </button>
            {isLoading && <Loading what="Reading" />}
            <ReadHint of={value.read} />
          </div>
          {type === undefined ? (
            <Types of={value} />
          ) : chosen === undefined ? (
            <Empty title="No such type">
              <p>
                <bdi>{type}</bdi> has no schema, and no event of it was read.
              </p>
              <AllTypes />
            </Empty>
          ) : (
            <OneType key={type} of={chosen} />
          )}
        </>
      )}
    </>
  )
}

const AllTypes = () => <a href={linkTo('schemas', { most: place.value.parameters['most'] })}>All types</a>

const CHECK = {
  enforce: 'Events that are not as the schema of their type wants them are refused.',
  warn: 'Events that are not as the schema of their type wants them are stored, counted and logged.',
  off: 'Events are not checked now.',
} as const
const OTHER_TYPES = {
  accept: 'Events of types without a schema are stored.',
  refuse: 'Events of types without a schema are refused.',
} as const
const WHILE_UNKNOWN = {
  refuse: 'While it is not known whether a type has a schema, its events are refused.',
  accept: 'While it is not known whether a type has a schema, its events are stored.',
} as const

function Checks({ of: { checks, known, detail } }: { of: StreamSchemas }) {
  return (
    <section class={`card verdict ${known === 'all' || checks === undefined ? 'calm' : 'warn'}`} aria-label="Checks">
      {known !== 'all' && (
        <p>
          <bdi>{detail}</bdi>
        </p>
      )}
      {checks !== undefined && (
        <p class="hint">
          {CHECK[checks.check]}
          {checks.check !== 'off' && ` ${OTHER_TYPES[checks.otherTypes]} ${WHILE_UNKNOWN[checks.whileUnknown]}`}
        </p>
      )}
    </section>
  )
}

function ReadHint({ of: { records, from, to, complete, withoutType, ofOtherTypes } }: { of: StreamSchemas['read'] }) {
  if (from === undefined || to === undefined) return <span class="hint">The stream has no records.</span>
  return (
    <span class="hint">
      {complete ? 'All ' : 'The newest '}
      {counted(records, 'record')} {complete && 'that there are '}were counted, from <Time iso={from} /> to{' '}
      <Time iso={to} />
      {withoutType > 0 && `; ${count(withoutType)} do not say their type in a header`}
      {ofOtherTypes > 0 && `; ${count(ofOtherTypes)} are of further types`}
    </span>
  )
}

// ---- all types

function Types({ of: { types, known } }: { of: StreamSchemas }) {
  const withSchema = types.filter(({ schema }) => schema === 'known')
  const others = types.filter(({ schema }) => schema !== 'known')
  if (types.length === 0)
    return (
      <Empty title="No schemas, and no events">
        <p>
          {known === 'all'
            ? 'A file SUBJECT.v1.json in SCHEMAS_DIR, or a version in the registry, is the first schema of a type.'
            : 'Types are listed here once their events are in the stream.'}
        </p>
      </Empty>
    )
  return (
    <>
      {withSchema.length > 0 && <TypeTable title="Types with a schema" types={withSchema} />}
      {others.length > 0 && (
        <TypeTable
          title={others.some(({ schema }) => schema === 'unknown') ? 'Other types' : 'Types without a schema'}
          types={others}
        />
      )}
    </>
  )
}

function TypeTable({ title, types }: { title: string; types: readonly TypeSchemas[] }) {
  const { most } = place.value.parameters
  return (
    <Scrolls label={title}>
      <h2>{title}</h2>
      <table>
        <thead>
          <tr>
            <th>type</th>
            <th class="amount">latest</th>
            <th>events by version</th>
            <th class="amount">senders</th>
            <th>newest event</th>
          </tr>
        </thead>
        <tbody>
          {types.map((one) => {
            const uses = usesOf(one)
            const newest = uses
              .map(({ use }) => use.newest)
              .sort()
              .at(-1)
            return (
              <tr key={one.type}>
                <td>
                  <a href={linkTo('schemas', { type: one.type, most })}>
                    <bdi>{one.type}</bdi>
                  </a>
                </td>
                <td class="amount">{latestOf(one)?.version ?? (one.schema === 'unknown' ? 'not known' : 'none')}</td>
                <td>
                  {uses.map(({ name, tone, use }) => (
                    <span key={name} class="use">
                      <span class={`state ${tone}`}>{name}</span> {count(use.events)}
                    </span>
                  ))}
                  {uses.length === 0 && <span class="hint">no events</span>}
                </td>
                <td class="amount">{uses.length > 0 && sendersOf(uses.map(({ use }) => use))}</td>
                <td>{newest !== undefined && <Time iso={newest} />}</td>
              </tr>
            )
          })}
        </tbody>
      </table>
    </Scrolls>
  )
}

const latestOf = ({ versions }: TypeSchemas) => versions.find(({ draft }) => draft !== undefined)

interface UseOf {
  name: string
  /** Whoever sends an older version is to be found. */
  tone: 'good' | 'warn' | 'calm'
  use: SchemaUse
}

function usesOf(of: TypeSchemas): UseOf[] {
  const latest = latestOf(of)
  const tone = (version: number) => (latest === undefined ? 'calm' : version < latest.version ? 'warn' : 'good')
  return [
    ...of.versions.flatMap(({ version, use }) =>
      use === undefined ? [] : [{ name: `v${version}`, tone: tone(version), use } as const],
    ),
    ...(of.without === undefined ? [] : [{ name: 'none', tone: 'calm', use: of.without } as const]),
    ...(of.otherwise === undefined ? [] : [{ name: 'other', tone: 'calm', use: of.otherwise } as const]),
  ]
}

/** The same sender may send several versions. */
function sendersOf(uses: readonly SchemaUse[]): string {
  const named = new Set(uses.flatMap(({ senders }) => senders.map(({ source }) => source)))
  const isMore = uses.some(({ others }) => others !== undefined)
  return `${count(named.size)}${isMore ? ' or more' : ''}`
}

// ---- one type

function OneType({ of }: { of: TypeSchemas }) {
  const { type, subject, schema, versions, unusable, without, otherwise } = of
  const latest = latestOf(of)
  const { version = latest === undefined ? '' : String(latest.version) } = place.value.parameters
  const isSent = usesOf(of).length > 0
  return (
    <>
      <p>
        <AllTypes />
      </p>
      <Scrolls label={`Versions of ${type}`}>
        <h2>
          <Text>{type}</Text>
        </h2>
        <p class="hint">
          subject <bdi>{subject}</bdi>
          {schema === 'none' && ', which has no schema'}
          {schema === 'unknown' && '. Whether it has a schema cannot be told now'}
          {unusable !== undefined &&
            `. Version ${unusable} cannot be used: events that do not name another are treated as while it is not known whether a type has a schema`}
        </p>
        {!isSent && <p class="hint">No event of this type is among the records that were counted.</p>}
        {(versions.length > 0 || isSent) && (
          <table>
            <thead>
              <tr>
                <th>version</th>
                <th>title</th>
                <th class="amount">events</th>
                <th>newest</th>
                <th>senders</th>
              </tr>
            </thead>
            <tbody>
              {versions.map((one) => (
                <UseRow key={one.version} use={one.use} title={one.title} hint={one.description}>
                  {one.draft === undefined ? (
                    <span title="It is not among the versions that the console knows.">{one.version}, not known</span>
                  ) : (
                    <a
                      href={linkTo('schemas', { ...place.value.parameters, version: String(one.version), against: '' })}
                      class={String(one.version) === version ? 'shown' : undefined}
                      aria-current={String(one.version) === version ? 'true' : undefined}
                    >
                      {one.version}
                      {one === latest && ', latest'}
                    </a>
                  )}
                </UseRow>
              ))}
              {without !== undefined && (
                <UseRow use={without} title="without a version: not checked, or stored with faults">
                  none
                </UseRow>
              )}
              {otherwise !== undefined && (
                <UseRow use={otherwise} title="checked by another subject">
                  other
                </UseRow>
              )}
            </tbody>
          </table>
        )}
      </Scrolls>
      {latest !== undefined && <Documents of={of} version={version} />}
    </>
  )
}

function UseRow({
  use,
  title,
  hint,
  children,
}: {
  use: SchemaUse | undefined
  title: string | undefined
  hint?: string | undefined
  children: preact.ComponentChildren
}) {
  return (
    <tr>
      <td>{children}</td>
      <td title={hint}>
        <bdi>{title}</bdi>
      </td>
      <td class="amount">{count(use?.events ?? 0)}</td>
      <td>{use !== undefined && <Time iso={use.newest} />}</td>
      <td>{use !== undefined && <Senders of={use} />}</td>
    </tr>
  )
}

/** The others are there to be opened. */
const SHOWN_SENDERS = 5

function Senders({ of: { senders, others } }: { of: SchemaUse }) {
  const list = (some: SchemaUse['senders']) => (
    <ul class="senders">
      {some.map(({ source, events }) => (
        <li key={source}>
          <bdi>{source}</bdi> <span class="hint">{count(events)}</span>
        </li>
      ))}
    </ul>
  )
  const hidden = senders.slice(SHOWN_SENDERS)
  return (
    <>
      {list(senders.slice(0, SHOWN_SENDERS))}
      {hidden.length > 0 && (
        <details>
          <summary>{count(hidden.length + (others?.senders ?? 0))} more</summary>
          {list(hidden)}
          {others !== undefined && (
            <p class="hint">
              and {counted(others.senders, 'sender')} with {counted(others.events, 'event')}
            </p>
          )}
        </details>
      )}
    </>
  )
}

/** A version's document, and what is different in another. */
function Documents({ of: { type, versions }, version }: { of: TypeSchemas; version: string }) {
  const { against = '' } = place.value.parameters
  const known = versions.filter(({ draft }) => draft !== undefined).map((one) => String(one.version))
  const wanted = [version, ...(against === '' ? [] : [against])]
  const { value, error, again } = useLoad(JSON.stringify(wanted), (signal) =>
    Promise.all(wanted.map((one) => client.value.schema(stream.value, type, Number(one), signal))),
  )
  const [shown, other] = value ?? []
  return (
    <section class="card" aria-label="Document">
      <div class="form">
        <Choice
          label="Document of version"
          value={version}
          options={known.map((one) => [one, one] as const)}
          onChange={(chosen) => change({ version: chosen, ...(chosen === against && { against: '' }) })}
        />
        <Choice
          label="Compared with"
          value={against}
          options={[
            ['', 'none'],
            ...known.filter((one) => one !== version).map((one) => [one, `version ${one}`] as const),
          ]}
          onChange={(chosen) => change({ version, against: chosen })}
        />
      </div>
      {error !== undefined && <Problem error={error} again={again} />}
      {shown === undefined && error === undefined && <Loading what="Loading the schema" />}
      {shown !== undefined && error === undefined && other === undefined && (
        <Data data={{ format: 'json', json: shown.document }} />
      )}
      {shown !== undefined && error === undefined && other !== undefined && <Between before={other} after={shown} />}
    </section>
  )
}

function Between({ before, after }: { before: SchemaDocument; after: SchemaDocument }) {
  const [from, to] = [before, after].map(({ document }) => textOf({ format: 'json', json: document }))
  if (from === to) return <p class="hint">The two versions are the same.</p>
  return (
    <Difference
      title={`from version ${before.version} to version ${after.version}`}
      before={from ?? ''}
      after={to ?? ''}
    />
  )
}
