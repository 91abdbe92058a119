/**
 * A page with other text between a pair of marks.
 * @param name of the marks, `<!-- NAME: begin (bun run generate) -->` and `<!-- NAME: end -->`
 * @param path of the page, for the message
 * @throws Error when a mark is missing
 */
export function withMarked(page: string, name: string, text: string, path: string): string {
  const begins = `<!-- ${name}: begin`
  const beginLine = `${begins} (bun run generate) -->`
  const endLine = `<!-- ${name}: end -->`
  const begin = page.indexOf(begins)
  const end = page.indexOf(endLine)
  if (begin < 0 || end < begin) throw new Error(`${path} lacks the marks ${beginLine} and ${endLine}`)
  return `${page.slice(0, begin)}${beginLine}\n\n${text}\n${page.slice(end)}`
}
