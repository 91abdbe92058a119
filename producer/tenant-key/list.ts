import { argumentsOf, FailedError, oneLine, UsageError } from '../../shared/service/command-line.ts'
import { table } from '../../shared/service/table.ts'
import { paint } from '../../shared/service/terminal.ts'
import { type Command, FILE_HELP, FILE_OPTION, neededFile, type Place, placesIn } from './command.ts'
import { openFile } from './file.ts'

const SOON_DAYS = 14

const HELP = `The keys of the tenants file, and which of them are valid now.

Usage: bun run tenant-key list

  --tenant NAME   those of this tenant alone
  --json          as JSON
${FILE_HELP}
  --help          this text
`

type State = 'valid' | 'expires soon' | 'expired' | 'not valid yet' | 'tenant disabled'

const COLOURS = {
  'expires soon': 'yellow',
  expired: 'red',
  'not valid yet': 'yellow',
  'tenant disabled': 'red',
} as const

export const list: Command = {
  usage: 'list',
  summary: 'all keys, and which are valid',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {
      tenant: { type: 'string' },
      json: { type: 'boolean', default: false },
      ...FILE_OPTION,
    })
    if (positionals.length > 0) throw new UsageError('list takes no arguments')
    const { file } = await openFile(neededFile(values.file, io))
    if (values.tenant !== undefined && !Object.hasOwn(file.tenants, values.tenant))
      throw new FailedError(`there is no tenant ${values.tenant}`)
    const keys = placesIn(file)
      .filter(({ tenant }) => values.tenant === undefined || tenant === values.tenant)
      .map(({ tenant, entry }) => ({
        id: entry.id,
        tenant: tenant ?? null,
        name: entry.name ?? null,
        roles: entry.roles ?? (tenant === undefined ? ['read'] : ['send']),
        streams: entry.streams ?? null,
        notBefore: entry.notBefore ?? null,
        expiresAt: entry.expiresAt ?? null,
        state: stateOf(entry, tenant === undefined || file.tenants[tenant]?.enabled !== false, io.nowMs()),
      }))
    if (values.json) {
      io.out(JSON.stringify(keys))
      return 0
    }
    if (keys.length === 0) {
      io.say('There are no keys.')
      return 0
    }
    const rows = keys.map(({ id, tenant, name, roles, streams, notBefore, expiresAt, state }) => [
      id,
      tenant ?? '(operator)',
      oneLine(name ?? ''),
      roles.join(','),
      streams?.join(',') ?? 'all',
      notBefore ?? '',
      expiresAt ?? '',
      state === 'valid' ? state : paint(COLOURS[state], state),
    ])
    for (const line of table(['ID', 'TENANT', 'NAME', 'ROLES', 'STREAMS', 'NOT BEFORE', 'EXPIRES', 'STATE'], rows))
      io.out(line)
    return 0
  },
}

function stateOf({ notBefore, expiresAt }: Place['entry'], isEnabled: boolean, nowMs: number): State {
  const leftMs = expiresAt === undefined ? Number.POSITIVE_INFINITY : Date.parse(expiresAt) - nowMs
  if (leftMs <= 0) return 'expired'
  if (notBefore !== undefined && Date.parse(notBefore) > nowMs) return 'not valid yet'
  if (!isEnabled) return 'tenant disabled'
  return leftMs <= SOON_DAYS * 86_400_000 ? 'expires soon' : 'valid'
}
