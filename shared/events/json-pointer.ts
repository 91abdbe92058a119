/** RFC 6901: pointers into JSON. */

/** Section 3. */
const POINTER = /^(?:\/(?:[^~/]|~[01])*)*$/

export const isPointer = (text: string): boolean => POINTER.test(text)

/** To a member of the top level. */
export const pointerTo = (member: string): string => `/${member.replaceAll('~', '~0').replaceAll('/', '~1')}`

/** The names that a pointer leads through, unescaped. */
export function stepsOf(pointer: string): string[] {
  if (pointer === '') return []
  const steps = pointer.slice(1).split('/')
  return pointer.includes('~') ? steps.map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~')) : steps
}
