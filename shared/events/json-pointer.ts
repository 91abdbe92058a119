/** RFC 6901: pointers into JSON. */

/** Section 3. */
const POINTER = /^(?:\/(?:[^~/]|~[01])*)*$/

export const isPointer = (text: string): boolean => POINTER.test(text)

/** To a member of the top level. */
export const pointerTo = (member: string): string => `/${member.replaceAll('~', '~0').replaceAll('/', '~1')}`

/** The names that a pointer leads through, unescaped. */
export const stepsOf = (pointer: string): string[] =>
  pointer
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
