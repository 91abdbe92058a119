import { pointerTo } from '../../../shared/events/json-pointer.ts'
import type { Edit } from '../acts-log.ts'
import { isContainer } from '../json.ts'

type Operation = NonNullable<Edit['patch']>[number]

/**
 * The operations of RFC 6902 that make one JSON document of another. What is the same is not named, so that it may be masked. Elements of arrays are compared
 * by their place.
 */
export function changesBetween(before: unknown, after: unknown, path = ''): Operation[] {
  if (!isContainer(before) || !isContainer(after) || Array.isArray(before) !== Array.isArray(after))
    return JSON.stringify(before) === JSON.stringify(after) ? [] : [{ op: 'replace', path, value: after }]
  const at = (name: string): string => `${path}${pointerTo(name)}`
  const isGone = (name: string): boolean => !Object.hasOwn(after, name)
  const isNew = (name: string): boolean => !Object.hasOwn(before, name)
  const names = Object.keys(before)
  return [
    ...names.filter((name) => !isGone(name)).flatMap((name) => changesBetween(before[name], after[name], at(name))),
    // From the end: those behind a removed element move.
    ...names
      .filter(isGone)
      .toReversed()
      .map((name): Operation => ({ op: 'remove', path: at(name) })),
    ...Object.keys(after)
      .filter(isNew)
      .map((name): Operation => ({ op: 'add', path: at(name), value: after[name] })),
  ]
}
