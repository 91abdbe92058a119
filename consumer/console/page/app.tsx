import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { Browse } from './browse.tsx'
import { Find } from './find.tsx'
import { fragmentOf, VIEWS, type View } from './fragment.ts'
import { Letters } from './letters.tsx'
import { Live } from './live.tsx'
import { Choice, Empty, Field, Loading, Problem } from './parts.tsx'
import { Pipeline } from './pipeline.tsx'
import { go, linkTo, place } from './place.ts'
import { Schemas } from './schemas.tsx'
import { Send } from './send.tsx'
import {
  keepOpen,
  leave,
  logIn,
  loginUrl,
  logOut,
  may,
  open,
  sends,
  session,
  stream,
  streams,
  tenant,
  tenants,
  use,
} from './session.ts'

/** The frame around the views. */

const TITLES: Readonly<Record<View, string>> = {
  pipeline: 'Pipeline',
  find: 'Find',
  browse: 'Browse',
  letters: 'Dead letters',
  live: 'Live',
  schemas: 'Schemas',
  send: 'Send',
}

const BODIES: Readonly<Record<View, () => preact.JSX.Element>> = {
  pipeline: Pipeline,
  find: Find,
  browse: Browse,
  letters: Letters,
  live: Live,
  schemas: Schemas,
  send: Send,
}

/** What the key may use. */
const offered = (): View[] => VIEWS.filter((view) => (view === 'send' ? may('send') && sends() : may('read')))

/** `/` goes to the first field, unless something is typed or asked. */
function onKey(event: KeyboardEvent): void {
  const isTyped = event.target instanceof HTMLElement && event.target.matches('input, textarea, select')
  if (event.key !== '/' || isTyped || document.querySelector('dialog[open]') !== null) return
  event.preventDefault()
  const first = document.querySelector<HTMLElement>('main input, main textarea')
  ;(first ?? document.querySelector<HTMLElement>('header select'))?.focus()
}

export function App() {
  useEffect(() => {
    void open()
    const close = keepOpen()
    addEventListener('keydown', onKey)
    return () => {
      removeEventListener('keydown', onKey)
      close()
    }
  }, [])
  const { view } = place.value
  const shown = useRef<View | undefined>(undefined)
  // Before the view is seen: what is typed then goes where it shall.
  useLayoutEffect(() => {
    document.title = `${TITLES[view]} · KafkaTrace`
    // Whoever uses a keyboard or a screen reader begins with the new view. The first one is only loaded.
    if (shown.current !== undefined && shown.current !== view) document.getElementById('main')?.focus()
    shown.current = view
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
    {offered().map((one) => (
      <a key={one} href={linkTo(one)} aria-current={one === view ? 'page' : undefined}>
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
          onChange={(name) => go(fragmentOf({ view: place.value.view, parameters: { tenant: name } }))}
        />
      )}
      <Choice
        label="stream"
        value={stream.value}
        options={options(streams.value)}
        onChange={(name) =>
          go(
            fragmentOf({
              view: place.value.view,
              parameters: { ...(tenants.value.length > 1 && { tenant: tenant.value?.name ?? '' }), stream: name },
            }),
          )
        }
      />
      {now.access.isLoggedIn && <span title={now.access.by}>{now.access.name ?? now.access.by}</span>}
      {now.access.isLoggedIn && (
        <button type="button" class="quiet" onClick={logOut}>
          Log out
        </button>
      )}
      {now.access.auth === 'on' && !now.access.isLoggedIn && (
        <button type="button" class="quiet" onClick={leave} title={`Forget the key ${now.access.by}`}>
          Sign out
        </button>
      )}
    </div>
  )
}

function Body() {
  const now = session.value
  if (now.kind === 'asking') return <Loading what="Checking access" />
  if (now.kind === 'failed')
    return (
      <>
        <Problem error={now.error} again={() => open()} />
        <button type="button" onClick={leave}>
          Use another key
        </button>
      </>
    )
  if (now.kind === 'no key') return <KeyForm refusal={now.refusal} />
  const { view } = place.value
  if (view === 'send' ? !may('send') : !may('read'))
    return (
      <Empty
        title={`${now.access.isLoggedIn ? 'You' : 'This key'} may not ${view === 'send' ? 'send' : 'read'}`}
        isPage
      >
        <p>
          {now.access.isLoggedIn ? `${now.access.name ?? now.access.by} has` : `The key ${now.access.by} has`}{' '}
          {now.access.roles.length === 1 ? 'the role' : 'the roles'} {now.access.roles.join(', ')}. What is shown here
          needs the role {view === 'send' ? 'send' : 'read'}, which{' '}
          {now.access.isLoggedIn ? 'the issuer of your log-in can give you' : 'the tenants file can give it'}.
        </p>
        <button type="button" onClick={now.access.isLoggedIn ? logOut : leave}>
          {now.access.isLoggedIn ? 'Log out' : 'Use another key'}
        </button>
      </Empty>
    )
  if (tenant.value === undefined)
    return (
      <Empty title={`The key is not for the tenant ${place.value.parameters['tenant']}`} isPage>
        <p>It is for: {tenants.value.map(({ name }) => name).join(', ')}.</p>
      </Empty>
    )
  if (!streams.value.includes(stream.value))
    return (
      <Empty title={`There is no stream ${stream.value}`} isPage>
        <p>
          The key is for these streams of {tenant.value.name}: {streams.value.join(', ')}.
        </p>
      </Empty>
    )
  const View = BODIES[view]
  // A view of another stream begins anew.
  return <View key={`${tenant.value.name}/${stream.value}`} />
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
      <h1>{loginUrl.value === undefined ? 'Your key' : 'Log in, or use a key'}</h1>
      {loginUrl.value !== undefined && (
        <button type="button" class="main" onClick={logIn}>
          Log in
        </button>
      )}
      <p class="hint">
        A key with the role read sees events; with operate it also acts. It is kept until this tab is closed.
      </p>
      <Field label="Key" type="password" value={given} onInput={setGiven} isInvalid={refusal !== undefined} />
      {refusal !== undefined && (
        <p role="alert" class="bad-text">
          {refusal}
        </p>
      )}
      <button type="submit" class={loginUrl.value === undefined ? 'main' : ''} disabled={isAsking}>
        Open
      </button>
    </form>
  )
}
