import { randomBytes } from 'node:crypto'

/** What of a tenants file is looked at here; the services check it. */
interface Declared {
  tenants?: {
    default?: {
      streams?: unknown
      keys?: unknown
      sources?: Record<string, { kind?: unknown; stream?: unknown; secrets?: unknown }>
    }
  }
}

/**
 * The tenants file of `bun run dev`: the tenant that every request is of, with a source "github".
 * @param own the user's file, to which that source is added where it can be
 * @param streams of a file that is made, besides "events"
 * @returns `secret` undefined: the file has no such source, and cannot be given one
 */
export function devTenants(own: unknown, streams: readonly string[]): { file: unknown; secret: string | undefined } {
  const file = (own ?? { tenants: { default: { streams: ['events', ...streams], keys: [] } } }) as Declared
  const tenant = file.tenants?.default
  const github = tenant?.sources?.['github']
  if (github !== undefined) {
    const [secret]: unknown[] = github.kind === 'github' && Array.isArray(github.secrets) ? github.secrets : []
    return { file, secret: typeof secret === 'string' ? secret : undefined }
  }
  if (
    !Array.isArray(tenant?.streams) ||
    !tenant.streams.includes('events') ||
    Object.keys(file.tenants ?? {}).length > 1
  )
    return { file, secret: undefined }
  const secret = randomBytes(32).toString('hex')
  tenant.sources = { ...tenant.sources, github: { kind: 'github', stream: 'events', secrets: [secret] } }
  return { file, secret }
}

/** What is shown of a file's sources. */
export const sourcesIn = (file: unknown): { name: string; kind: string; stream: string }[] =>
  Object.entries((file as Declared | null)?.tenants?.default?.sources ?? {}).map(([name, { kind, stream }]) => ({
    name,
    kind: String(kind),
    stream: String(stream),
  }))
