/** Makes an API key: `bun run tenant-key ID`. */

import { NAME_PATTERN } from '../shared/events/topics.ts'
import { makeKey, ROLES, type Role } from '../shared/http/tenants.ts'
import { parseCommandLine, refuse } from '../shared/service/command-line.ts'

const HELP = `Makes an API key: bun run tenant-key ID [--roles ROLE,…]

  ID              names the key in logs: a-z, 0-9 and "-"; unique among the keys of all tenants and operators
  --roles ROLE,…  what the key may do: ${ROLES.join(', ')}. Without it, a tenant's key may send, and an operator's may read
  --help          this text

Standard output has the key and nothing else.
`

const isRole = (text: string): boolean => ROLES.includes(text as Role)

const { positionals, values } = parseCommandLine(HELP, {
  allowPositionals: true,
  options: { roles: { type: 'string' } },
})
const [id = '', ...more] = positionals
if (more.length > 0 || !new RegExp(NAME_PATTERN).test(id))
  refuse('one ID is needed: at most 63 of a-z, 0-9 and "-", not beginning with "-"', HELP)
const roles = values.roles?.split(',')
if (roles !== undefined && !(roles.every(isRole) && new Set(roles).size === roles.length))
  refuse(`--roles takes some of ${ROLES.join(',')}, each once`, HELP)
const { key, sha256 } = makeKey(id)
console.error('Give this to the client; it is not kept anywhere:')
console.log(key)
console.error(
  `\nPut this among the tenant’s "keys" in TENANTS_FILE, or, for all tenants, among its "operators":\n${JSON.stringify({ id, sha256, roles })}`,
)
