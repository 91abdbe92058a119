/** Makes an API key: `bun run tenant-key ID`. */

import { NAME_PATTERN } from '../shared/events/topics.ts'
import { makeKey } from '../shared/http/tenants.ts'
import { parseCommandLine, refuse } from '../shared/service/command-line.ts'

const HELP = `Makes an API key: bun run tenant-key ID

  ID       names the key in logs: a-z, 0-9 and "-"; unique among the keys of all tenants
  --help   this text

Standard output has the key and nothing else.
`

const { positionals } = parseCommandLine(HELP, { allowPositionals: true })
const [id = '', ...more] = positionals
if (more.length > 0 || !new RegExp(NAME_PATTERN).test(id))
  refuse('one ID is needed: at most 63 of a-z, 0-9 and "-", not beginning with "-"', HELP)
const { key, sha256 } = makeKey(id)
console.error('Give this to the client; it is not kept anywhere:')
console.log(key)
console.error(`\nPut this among the tenant’s "keys" in TENANTS_FILE:\n${JSON.stringify({ id, sha256 })}`)
