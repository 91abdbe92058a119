import { NAME_PATTERN } from '../../shared/events/topics.ts'
import { makeKey, type TenantsFile } from '../../shared/http/tenants.ts'
import { argumentsOf, FailedError, only, UsageError } from '../../shared/service/command-line.ts'
import { durationMs } from '../../shared/service/time.ts'
import {
  APPLIED,
  type Command,
  type Entry,
  FILE_HELP,
  FILE_OPTION,
  handOver,
  neededFile,
  placeOf,
  placesIn,
  secondOf,
  timeFrom,
} from './command.ts'
import { openFile, replaceFile } from './file.ts'
import { appendElement, setMember } from './json-text.ts'

const DEFAULT_OVERLAP = '7d'

const HELP = `Makes a key in place of another one, which stays valid for a while.

Usage: bun run tenant-key roll ID

  --overlap TIME  how long the old key is still valid, such as 12h; ${DEFAULT_OVERLAP} where not given
  --expires WHEN  how long the new one is, such as 90d; for ever where not given
${FILE_HELP}
  --help          this text

The new key has all that the old one has but for its end, and its id with the next number: shop-2 for shop or shop-1.
Standard output has the key and nothing else.
`

export const roll: Command = {
  usage: 'roll ID',
  summary: 'a new key in place of one that expires then',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {
      overlap: { type: 'string', default: DEFAULT_OVERLAP },
      expires: { type: 'string' },
      ...FILE_OPTION,
    })
    const id = only('ID', positionals)
    const overlapMs = durationMs(values.overlap)
    if (overlapMs === undefined) throw new UsageError(`--overlap ${values.overlap}: not a duration such as 12h or 7d`)
    const nowMs = io.nowMs()
    const expires = values.expires === undefined ? undefined : timeFrom('--expires', values.expires, nowMs)
    const path = neededFile(values.file, io)
    const opened = await openFile(path)
    const place = placeOf(id, opened.file)
    const { expiresAt: until } = place.entry
    if (until !== undefined && Date.parse(until) <= nowMs)
      throw new FailedError(`${id} has expired at ${until}: make a new key, and revoke this one`)
    const { found: successor, passed } = nextId(id, opened.file)
    const { key, sha256 } = makeKey(successor)
    const { notBefore: _, expiresAt: __, ...kept } = place.entry
    const entry: Entry = { ...kept, id: successor, sha256, ...(expires === undefined ? {} : { expiresAt: expires }) }
    const end = secondOf(nowMs + overlapMs)
    // One that expires sooner does so all the same.
    const expiresAt = until !== undefined && Date.parse(until) <= Date.parse(end) ? until : end
    const expected = structuredClone(opened.file)
    const entries = entriesIn(expected, place.tenant)
    entries[place.index] = { ...place.entry, expiresAt }
    entries.push(entry)
    const expiring = setMember(opened.bytes, [...place.path, place.index], 'expiresAt', expiresAt)
    await replaceFile(opened, appendElement(expiring, place.path, entry), expected)
    const done = `${successor} was added to ${path}`
    const ifLost = `${done} all the same, and ${id} expires at ${expiresAt}: revoke ${successor}, then roll ${id} again`
    handOver(key, ifLost, io)
    io.say(`${done}, and ${id} expires at ${expiresAt}. ${APPLIED}`)
    if (passed.length > 0) io.say(`There already: ${passed.join(', ')}. Revoke what nobody uses.`)
    if (expires === undefined) io.say(`${successor} never expires; --expires sets an end.`)
    return 0
  },
}

/** The array itself. */
export const entriesIn = (file: TenantsFile, tenant: string | undefined): Entry[] =>
  (tenant === undefined ? file.operators : file.tenants[tenant]?.keys) as Entry[]

/** The next id that is free, and those before it that are not. @throws FailedError where it is no name any more */
function nextId(id: string, file: TenantsFile): { found: string; passed: string[] } {
  const taken = new Set(placesIn(file).map(({ entry }) => entry.id))
  const [, base = id, number = '1'] = /^(.*)-([1-9]\d{0,5})$/.exec(id) ?? []
  const passed: string[] = []
  let found = ''
  for (let next = Number(number) + 1; ; next++) {
    found = `${base}-${next}`
    if (!taken.has(found)) break
    passed.push(found)
  }
  if (new RegExp(NAME_PATTERN).test(found)) return { found, passed }
  throw new FailedError(`${found} would be too long for an id: make a key with another one, then revoke ${id} --at`)
}
