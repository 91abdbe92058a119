import { makeKey } from '../../shared/http/tenants.ts'
import { argumentsOf, FailedError, UsageError } from '../../shared/service/command-line.ts'
import {
  APPLIED,
  type Command,
  type Entry,
  FILE_HELP,
  FILE_OPTION,
  fileOf,
  handOver,
  type Io,
  nameOf,
  placeName,
  placesIn,
  rolesOf,
  timeFrom,
} from './command.ts'
import { type Opened, openFile, replaceFile } from './file.ts'
import { appendElement, setMember } from './json-text.ts'

const HELP = `Makes a key, and adds it to the tenants file.

Usage: bun run tenant-key make TENANT ID
       bun run tenant-key make --operator ID

  ID              names the key in logs: a-z, 0-9 and "-"; unique among the keys of all tenants and operators
  --operator      a key for all tenants
  --roles ROLE,…  what it may do: send, read, operate. Without it, a tenant's key may send, and an operator's may read
  --streams S,…   the streams of the tenant that it is for; without it, all
  --expires WHEN  how long it is valid: 90d, 12h or a time such as 2026-12-31T23:59:59Z; without it, for ever
  --name TEXT     what people call it
${FILE_HELP}.
                  With --file -, or without both, no file is changed, and the line for it is printed
  --help          this text

Standard output has the key and nothing else.
`

export const make: Command = {
  usage: 'make TENANT ID',
  summary: 'a new key',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {
      operator: { type: 'boolean', default: false },
      roles: { type: 'string' },
      streams: { type: 'string' },
      expires: { type: 'string' },
      name: { type: 'string' },
      ...FILE_OPTION,
    })
    const { operator } = values
    if (positionals.length !== (operator ? 1 : 2))
      throw new UsageError(operator ? 'one ID is needed' : 'TENANT and ID are needed')
    if (operator && values.streams !== undefined)
      throw new UsageError('--streams does not go with --operator, whose key is for all')
    const [id, tenant] = [nameOf('ID', positionals.at(-1) ?? ''), operator ? undefined : (positionals[0] ?? '')]
    const roles = rolesOf(values.roles, operator ? ['read', 'operate'] : undefined)
    const expiresAt = values.expires === undefined ? undefined : timeFrom('--expires', values.expires, io.nowMs())
    if (expiresAt !== undefined && Date.parse(expiresAt) <= io.nowMs())
      throw new UsageError(`--expires ${values.expires}: is not in the future`)
    const { key, sha256 } = makeKey(id)
    const entry: Entry = {
      id,
      sha256,
      ...(values.name === undefined ? {} : { name: values.name }),
      ...(expiresAt === undefined ? {} : { expiresAt }),
      ...(values.streams === undefined ? {} : { streams: values.streams.split(',') }),
      ...(roles === undefined ? {} : { roles }),
    }
    const path = fileOf(values.file, io)
    if (path === undefined) return printed(entry, tenant, key, io)
    await added(await openFile(path), tenant, entry)
    handOver(key, `${id} was added to ${path} all the same: revoke it`, io)
    io.say(`${id} was added to ${path}. ${APPLIED}`)
    return 0
  },
}

function printed(entry: Entry, tenant: string | undefined, key: string, io: Io): number {
  handOver(key, 'no file was changed: try again', io)
  io.say(`Put this among ${placeName(tenant)} in TENANTS_FILE:`)
  io.say(JSON.stringify(entry))
  return 0
}

/** Adds a key to a file. @param tenant undefined: to the operators' @throws FailedError */
export async function added(opened: Opened, tenant: string | undefined, entry: Entry): Promise<void> {
  const { bytes, file } = opened
  if (placesIn(file).some((place) => place.entry.id === entry.id))
    throw new FailedError(`there is a key ${entry.id} already: choose another ID, or roll or revoke that one`)
  const expected = structuredClone(file)
  if (tenant === undefined) {
    const operators = expected.operators
    // The roles of an operator's key are some of all.
    expected.operators = [...(operators ?? []), entry] as NonNullable<typeof operators>
    const edited =
      operators === undefined ? setMember(bytes, [], 'operators', [entry]) : appendElement(bytes, ['operators'], entry)
    return replaceFile(opened, edited, expected)
  }
  const declared = Object.hasOwn(expected.tenants, tenant) ? expected.tenants[tenant] : undefined
  if (declared === undefined)
    throw new FailedError(`there is no tenant ${tenant}; there are ${Object.keys(file.tenants).join(', ') || 'none'}`)
  declared.keys.push(entry)
  return replaceFile(opened, appendElement(bytes, ['tenants', tenant, 'keys'], entry), expected)
}
