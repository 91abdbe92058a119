/**
 * What is shown, as the page's address says it: `#/VIEW?PARAMETERS`. It stands in the fragment, which browsers send to no server: the page works under
 * any path, and nothing of the address is sent where links lead.
 */

export const VIEWS = ['pipeline', 'find', 'browse', 'letters', 'live', 'schemas', 'send'] as const
export type View = (typeof VIEWS)[number]

export interface Place {
  view: View
  parameters: Readonly<Record<string, string>>
}

/** Of a fragment. Where it names no view, the first is shown. */
export function placeIn(fragment: string): Place {
  const [path = '', query = ''] = fragment.replace(/^#?\/?/, '').split(/\?(.*)/s)
  const view = VIEWS.find((one) => one === path) ?? VIEWS[0]
  return { view, parameters: Object.fromEntries(new URLSearchParams(query)) }
}

/** The fragment of a place. Empty parameters are left out. */
export function fragmentOf({ view, parameters }: Place): string {
  const filled = Object.entries(parameters).filter(([, value]) => value !== '')
  const query = new URLSearchParams(filled).toString()
  return `#/${view}${query === '' ? '' : `?${query}`}`
}
