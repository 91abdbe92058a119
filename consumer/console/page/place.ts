import { signal } from '@preact/signals'
import { fragmentOf, type Place, placeIn, type View } from './fragment.ts'

/** The page's address, and going elsewhere. */

/** Parameters that stay when the view changes. */
const KEPT = ['tenant', 'stream']

export const place = signal<Place>(placeIn(globalThis.location?.hash ?? ''))

globalThis.addEventListener?.('hashchange', () => {
  place.value = placeIn(location.hash)
})

/** Where a link to a view of the same stream goes. */
export function linkTo(view: View, parameters: Readonly<Record<string, string | undefined>> = {}): string {
  const kept = Object.entries(place.value.parameters).filter(([name]) => KEPT.includes(name))
  const given = Object.entries(parameters).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return fragmentOf({ view, parameters: Object.fromEntries([...kept, ...given]) })
}

/** Goes there. The place before is one step back, unless it is replaced. */
export function go(fragment: string, how: 'push' | 'replace' = 'push'): void {
  if (how === 'push') location.hash = fragment
  else {
    history.replaceState(null, '', fragment)
    place.value = placeIn(fragment)
  }
}

/** The same view with other parameters. */
export const change = (parameters: Readonly<Record<string, string>>, how: 'push' | 'replace' = 'push'): void =>
  go(fragmentOf({ view: place.value.view, parameters: { ...place.value.parameters, ...parameters } }), how)
