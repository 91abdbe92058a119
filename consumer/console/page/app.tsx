import { useEffect, useState } from 'preact/hooks'
import { Browse } from './browse.tsx'
import { Find } from './find.tsx'
import { VIEWS, type View } from './fragment.ts'
import { Letters } from './letters.tsx'
import { Live } from './live.tsx'
import { Choice, Empty, Field, Loading, Problem } from './parts.tsx'
import { Pipeline } from './pipeline.tsx'
import { change, linkTo, place } from './place.ts'
import { leave, may, open, session, stream, streams, tenant, tenants, use } from './session.ts'

/** The frame around the views. */

const TITLES: Readonly<Record<View, string>> = {
  pipeline: 'Pipeline',
  find: 'Find',
  browse: 'Browse',
  letters: 'Dead letters',
  live: 'Live',
}

const BODIES: Readonly<Record<View, () => preact.JSX.Element>> = {
  pipeline: Pipeline,
  find: Find,
  browse: Browse,
  letters: Letters,
  live: Live,
}

/** A key that goes to a view: its place in the menu. Not while something is typed. */
function onKey(event: KeyboardEvent): void {
  const isTyped = event.target instanceof HTMLElement && event.target.matches('input, textarea, select')
  if (isTyped || event.ctrlKey || event.metaKey || event.altKey) return
  const view = VIEWS[Number(event.key) - 1]
  if (view !== undefined) location.hash = linkTo(view)
  else if (event.key === '/') {
    event.preventDefault()
    document.querySelector<HTMLInputElement>('main input')?.focus()
  }
}

export function App() {
  useEffect(() => {
    void open()
    addEventListener('keydown', onKey)
    return () => removeEventListener('keydown', onKey)
  }, [])
  const { view } = place.value
  useEffect(() => {
    document.title = `${TITLES[view]} · KafkaTrace`
  }, [view])
  const { kind } = session.value
  return (
    <>
      <button type="button" class="skip" onClick={skip}>
        Skip to the content
      </button>
      <header>
        <span class="brand">KafkaTrace</span>
        {kind === 'open' && <Menu view={view} />}
        {kind === 'open' && <Who />}
      </header>
      <main id="main" tabIndex={-1}>
        <Body />
      </main>
    </>
  )
}

function skip(): void {
  document.getElementById('main')?.focus()
}

const Menu = ({ view }: { view: View }) => (
  <nav aria-label="Views">
    {VIEWS.map((one, index) => (
      <a key={one} href={linkTo(one)} aria-current={one === view ? 'page' : undefined} title={`key ${index + 1}`}>
        {TITLES[one]}
      </a>
    ))}
  </nav>
)

/** Whose streams are seen, and by whom. */
function Who() {
  const now = session.value
  if (now.kind !== 'open') return null
  const options = (names: readonly string[]) => names.map((name) => [name, name] as const)
  return (
    <div class="who">
      {tenants.value.length > 1 && (
        <Choice
          label="tenant"
          value={tenant.value?.name ?? ''}
          options={options(tenants.value.map(({ name }) => name))}
          onChange={(name) => change({ tenant: name, stream: '' })}
        />
      )}
      <Choice
        label="stream"
        value={stream.value}
        options={options(streams.value)}
        onChange={(name) => change({ stream: name })}
      />
      {now.access.auth === 'on' && (
        <button type="button" class="quiet" onClick={leave} title={`Forget the key ${now.access.by}`}>
          Leave
        </button>
      )}
    </div>
  )
}

function Body() {
  const now = session.value
  if (now.kind === 'asking') return <Loading what="Asking what may be seen" />
  if (now.kind === 'failed') return <Problem error={now.error} again={open} />
  if (now.kind === 'no key') return <KeyForm refusal={now.refusal} />
  if (!may('read'))
    return (
      <Empty title="This key may not read" isPage>
        <p>
          The key {now.access.by} has the roles {now.access.roles.join(', ')}. What is shown here needs the role read,
          which the tenants file can give it.
        </p>
        <button type="button" onClick={leave}>
          Use another key
        </button>
      </Empty>
    )
  if (!streams.value.includes(stream.value))
    return (
      <Empty title={`There is no stream ${stream.value}`} isPage>
        <p>
          The key is for these streams of {tenant.value?.name}: {streams.value.join(', ')}.
        </p>
      </Empty>
    )
  const View = BODIES[place.value.view]
  // A view of another stream begins anew.
  return <View key={`${tenant.value?.name}/${stream.value}`} />
}

/** The key is kept for this tab, and is in no address. */
function KeyForm({ refusal }: { refusal: string | undefined }) {
  const [given, setGiven] = useState('')
  const [isAsking, setAsking] = useState(false)
  const send = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault()
    if (given.trim() === '') return
    setAsking(true)
    await use(given.trim())
    setAsking(false)
  }
  return (
    <form class="card key-form" onSubmit={send}>
      <h1>Your key</h1>
      <p class="hint">
        A key with the role read sees events; with operate it also acts. It is kept until this tab is closed.
      </p>
      <Field label="Key" type="password" value={given} onInput={setGiven} isInvalid={refusal !== undefined} />
      {refusal !== undefined && (
        <p role="alert" class="bad-text">
          {refusal}
        </p>
      )}
      <button type="submit" class="main" disabled={isAsking}>
        Open
      </button>
    </form>
  )
}
