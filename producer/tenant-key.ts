/** Makes an API key: `bun run tenant-key <id>`. */

import { NAME_PATTERN } from '../shared/events/topics.ts'
import { makeKey } from './tenants.ts'

const id = process.argv[2]
if (id === undefined || process.argv.length > 3 || !new RegExp(NAME_PATTERN).test(id)) {
  console.error(
    'Usage: bun run tenant-key <id>\n\nMakes an API key. <id> names it in logs: a-z, 0-9, "_" and "-", and no other key has it.',
  )
  process.exit(2)
}
const { key, sha256 } = makeKey(id)
console.error('Give this to the client; it is not kept anywhere:')
console.log(key)
console.error(`\nPut this among the tenant’s "keys" in TENANTS_FILE:\n${JSON.stringify({ id, sha256 })}`)
