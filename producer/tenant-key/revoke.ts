import { argumentsOf, FailedError, only } from '../../shared/service/command-line.ts'
import { APPLIED, type Command, FILE_HELP, FILE_OPTION, neededFile, placeName, placeOf, timeFrom } from './command.ts'
import { openFile, replaceFile } from './file.ts'
import { removeElement, setMember } from './json-text.ts'
import { entriesIn } from './roll.ts'

const HELP = `Takes a key out of the tenants file, or sets when it expires.

Usage: bun run tenant-key revoke ID

  --at WHEN       it stays in the file, and expires then: 2h, 7d or a time such as 2026-12-31T23:59:59Z
${FILE_HELP}
  --help          this text
`

export const revoke: Command = {
  usage: 'revoke ID',
  summary: 'no key any more, now or from a time on',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, { at: { type: 'string' }, ...FILE_OPTION })
    const id = only('ID', positionals)
    const at = values.at === undefined ? undefined : timeFrom('--at', values.at, io.nowMs())
    const path = neededFile(values.file, io)
    const opened = await openFile(path)
    const place = placeOf(id, opened.file)
    const expected = structuredClone(opened.file)
    const entries = entriesIn(expected, place.tenant)
    if (at === undefined) {
      entries.splice(place.index, 1)
      await replaceFile(opened, removeElement(opened.bytes, place.path, place.index), expected)
      io.say(`${id} was taken out of ${path}. ${APPLIED}`)
      io.say(`If that was a mistake, put this back among ${placeName(place.tenant)}:`)
      io.say(JSON.stringify(place.entry))
      return 0
    }
    const { expiresAt: before } = place.entry
    if (before !== undefined && Date.parse(before) < Date.parse(at))
      throw new FailedError(`${id} expires at ${before}, before ${at}: a key is not made to last longer by revoking it`)
    entries[place.index] = { ...place.entry, expiresAt: at }
    await replaceFile(opened, setMember(opened.bytes, [...place.path, place.index], 'expiresAt', at), expected)
    io.say(`${id} expires at ${at}. ${APPLIED}`)
    return 0
  },
}
