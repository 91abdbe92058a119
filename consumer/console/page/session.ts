import { computed, signal } from '@preact/signals'
import type { Role } from '../../../shared/http/tenants.ts'
import { ApiError, Client, refusalIn } from '../client.ts'
import { KEY_TEXT } from '../names.ts'
import type { Access } from '../stream-routes.ts'
import { place } from './place.ts'

/** Who uses the page: a person who has logged in, or the key; what they may do, and the client that asks for them. */

/** The tab's own storage: it ends with the tab. */
const KEY = 'kafkatrace-key'

const key = signal<string | undefined>(sessionStorage.getItem(KEY) ?? undefined)

type Session =
  | { kind: 'asking' }
  | { kind: 'no key'; refusal?: string }
  | { kind: 'failed'; error: Error }
  | { kind: 'open'; access: Access }

export const session = signal<Session>({ kind: 'asking' })

/** Where people log in; undefined while the console has not said that they can. */
export const loginUrl = signal<string | undefined>(undefined)

/** The page's own path: the API is beside it. */
const base = (): string => new URL('.', location.href).href

/** Asks what the key is for, with or without one. */
export async function open(asked = key.value): Promise<void> {
  try {
    const found = await new Client({ url: base(), key: asked }).access()
    key.value = asked
    if (asked !== undefined) sessionStorage.setItem(KEY, asked)
    session.value = { kind: 'open', access: found }
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      loginUrl.value = error.login
      asked === undefined ? leave() : expire(error.message)
    } else session.value = { kind: 'failed', error: error as Error }
  }
}

export async function use(given: string): Promise<void> {
  if (KEY_TEXT.test(given)) await open(given)
  else
    session.value = {
      kind: 'no key',
      refusal: 'This does not look like a key (kt.ID.…): enter it without quotes, brackets, spaces or “Bearer”.',
    }
}

/** The key is not accepted, or not any more. */
function expire(refusal: string): void {
  leave()
  session.value = { kind: 'no key', refusal }
}

/** To the issuer, and back to this place of the page. */
export function logIn(): void {
  location.assign(`${loginUrl.value}?${new URLSearchParams({ to: location.hash })}`)
}

/** Here and at the issuer. */
export async function logOut(): Promise<void> {
  try {
    const response = await fetch(new URL('auth/logout', base()), { method: 'POST' })
    if (!response.ok) throw await refusalIn(response)
    const { url } = (await response.json()) as { url: string }
    location.assign(url)
  } catch (error) {
    session.value = { kind: 'failed', error: error as Error }
  }
}

/** Forgets the key. */
export function leave(): void {
  key.value = undefined
  sessionStorage.removeItem(KEY)
  session.value = { kind: 'no key' }
}

const access = computed(() => (session.value.kind === 'open' ? session.value.access : undefined))

export const tenants = computed(() => access.value?.tenants ?? [])
/** As the address says, or the first one; undefined: the key is not for the one that the address names. */
export const tenant = computed(() => {
  const named = place.value.parameters['tenant']
  return named === undefined ? tenants.value[0] : tenants.value.find(({ name }) => name === named)
})
export const streams = computed(() => tenant.value?.streams ?? [])
/** As the address says, or the first one. */
export const stream = computed(() => place.value.parameters['stream'] ?? streams.value[0] ?? '')
/** Where a trace is shown; undefined where that is not configured. */
export const traceLink = (traceId: string): string | undefined =>
  access.value?.traceUrl?.replaceAll('{traceId}', encodeURIComponent(traceId))

/** Whether events can be sent through the console. */
export const sends = (): boolean => access.value?.sends === true
export const may = (role: Role): boolean => access.value?.roles.includes(role) === true
export const client = computed(
  () =>
    new Client({
      url: base(),
      key: key.value,
      fetch: watched,
      ...(tenants.value.length > 1 && { tenant: tenant.value?.name }),
    }),
)

/** Whoever asks: one whose key is refused, or whose session has ended, is asked anew. */
async function watched(url: string, init: RequestInit): Promise<Response> {
  const what = key.value === undefined ? '' : 'The key is not accepted any more. '
  const response = await fetch(url, init)
  if (response.status === 401) expire(what + (await whyIn(response.clone())))
  return response
}

async function whyIn(refused: Response): Promise<string> {
  const { detail = '', login } = (await refused.json().catch(() => ({}))) as { detail?: string; login?: string }
  loginUrl.value = login
  return detail
}

/** How often it is asked what the key is for, while the page is seen: tenants and streams come and go. */
const RENEW_MS = 10_000

/** @returns what ends it */
export function keepOpen(): () => void {
  const timer = setInterval(() => {
    if (session.value.kind === 'open' && document.visibilityState === 'visible') void renew(session.value.access)
  }, RENEW_MS)
  return () => clearInterval(timer)
}

async function renew(before: Access): Promise<void> {
  // Without an answer, the views that ask say so.
  const found = await new Client({ url: base(), key: key.value, fetch: watched }).access().catch(() => undefined)
  const isSame = JSON.stringify(found) === JSON.stringify(before)
  if (found !== undefined && !isSame && access.value === before) session.value = { kind: 'open', access: found }
}
