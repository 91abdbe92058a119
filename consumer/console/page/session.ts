import { computed, signal } from '@preact/signals'
import type { Role } from '../../../shared/http/tenants.ts'
import { ApiError, Client } from '../client.ts'
import type { Access } from '../stream-routes.ts'
import { place } from './place.ts'

/** Who uses the page: the key, what it is for, and the client that asks with it. */

/** The tab's own storage: it ends with the tab. */
const KEY = 'kafkatrace-key'

const key = signal<string | undefined>(sessionStorage.getItem(KEY) ?? undefined)

type Session =
  | { kind: 'asking' }
  | { kind: 'no key'; refusal?: string }
  | { kind: 'failed'; error: Error }
  | { kind: 'open'; access: Access }

export const session = signal<Session>({ kind: 'asking' })

/** The page's own path: the API is beside it. */
const base = (): string => new URL('.', location.href).href

/** Asks what the key is for, with or without one. */
export async function open(): Promise<void> {
  const asked = key.value
  try {
    const access = await new Client({ url: base(), key: asked }).access()
    session.value = { kind: 'open', access }
  } catch (error) {
    if (error instanceof ApiError && (error.status === 401 || error.status === 403)) {
      forget()
      session.value = { kind: 'no key', ...(asked === undefined ? {} : { refusal: error.message }) }
    } else session.value = { kind: 'failed', error: error as Error }
  }
}

export async function use(given: string): Promise<void> {
  key.value = given
  sessionStorage.setItem(KEY, given)
  await open()
}

function forget(): void {
  key.value = undefined
  sessionStorage.removeItem(KEY)
}

/** Forgets the key. */
export function leave(): void {
  forget()
  session.value = { kind: 'no key' }
}

const access = computed(() => (session.value.kind === 'open' ? session.value.access : undefined))

export const tenants = computed(() => access.value?.tenants ?? [])
export const tenant = computed(() => {
  const named = place.value.parameters['tenant']
  return tenants.value.find(({ name }) => name === named) ?? tenants.value[0]
})
export const streams = computed(() => tenant.value?.streams ?? [])
/** As the address says, or the first one. */
export const stream = computed(() => place.value.parameters['stream'] ?? streams.value[0] ?? '')
export const may = (role: Role): boolean => access.value?.roles.includes(role) === true
export const client = computed(
  () => new Client({ url: base(), key: key.value, ...(tenants.value.length > 1 && { tenant: tenant.value?.name }) }),
)
