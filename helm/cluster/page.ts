import { commandsIn } from '../checks/delivery-docs.ts'

/** docs/deployment.md as somebody types it: its commands in their order, with the replacements that the page itself names. */

/** The text of a section, up to the next heading of its level. @throws Error when there is none */
export function sectionOf(page: string, title: string): string {
  const [, text] = new RegExp(`^## ${title}\\n(.*?)(?=^## |(?![^]))`, 'ms').exec(page) ?? []
  if (text === undefined) throw new Error(`the page has no section "${title}"`)
  return text
}

export const commandsOf = (page: string, title: string): string[] => commandsIn(sectionOf(page, title))

/** The first block of JSON in a section: what goes into a file. */
export function jsonOf(page: string, title: string): string {
  const [, text] = /^ *```json\n(.*?)^ *```$/ms.exec(sectionOf(page, title)) ?? []
  if (text === undefined) throw new Error(`the section "${title}" has no block of JSON`)
  return text.trim()
}

/** What "Before the first release" says of later commands: what to replace by what, and what to add. */
interface Replacement {
  readonly published: string
  readonly local: string
  readonly added: string
}

/** @throws Error when the section no longer says it */
export function replacementOf(page: string): Replacement {
  const text = sectionOf(page, 'Before the first release').replaceAll(/\s*\n\s*/g, ' ')
  const [, published, local, added] = /replace `([^`]+)` by `([^`]+)`, and add `([^`]+)`/.exec(text) ?? []
  if (published === undefined || local === undefined || added === undefined)
    throw new Error('"Before the first release" does not say: replace `…` by `…`, and add `…`')
  return { published, local, added }
}

/** A command as it is typed before the first release. */
export const before = (command: string, { published, local, added }: Replacement): string =>
  command.includes(published) ? `${command.replace(published, local)} ${added}` : command

/** Names and addresses that no cluster has (RFC 2606, RFC 5737): the command is an example to be adapted. */
export const isExample = (command: string): boolean => /example\.com:|192\.0\.2\.\d/.test(command)
