/** Text that others wrote, as it is shown. */

/** More is not drawn: a browser lays out every line, seen or not. */
const MAX_SHOWN_CHARACTERS = 200_000
const MAX_SHOWN_LINES = 5_000

/** As much of a text as is shown and edited. */
export function beginningOf(text: string): string {
  let end = -1
  for (let line = 0; line < MAX_SHOWN_LINES; line++) {
    end = text.indexOf('\n', end + 1)
    if (end === -1) break
  }
  return text.slice(0, Math.min(end === -1 ? text.length : end, MAX_SHOWN_CHARACTERS))
}

/** Characters that are not seen, or change in which direction others are: in JSON, they are shown as escapes, which mean the same. */
const UNSEEN = /[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g
export const escaped = (json: string): string =>
  json.replace(UNSEEN, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`)
