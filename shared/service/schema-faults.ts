import type { TSchema } from '@sinclair/typebox'
import { type ValueError, ValueErrorType } from '@sinclair/typebox/errors'

/** Faults of what a person has written, by its schema: one for each place, in words. No value is in them: it may be a secret. */
export function schemaFaults(errors: Iterable<ValueError>): string[] {
  const faults = new Map<string, string>()
  for (const error of errors) {
    const path = error.path || '/'
    // What follows a missing member, or one of the wrong type, says the same again.
    if (!faults.has(path)) faults.set(path, `${path} ${inWords(error)}`)
  }
  return [...faults.values()]
}

function inWords({ type, schema, message }: ValueError): string {
  const { description, pattern, patternProperties, anyOf } = schema as TSchema & {
    pattern?: string
    patternProperties?: object
    anyOf?: { const?: unknown }[]
  }
  switch (type) {
    case ValueErrorType.ObjectRequiredProperty:
      return 'is missing'
    case ValueErrorType.ObjectAdditionalProperties:
      return patternProperties === undefined ? 'is not known' : `is no name: ${NAME_RULE}`
    case ValueErrorType.StringPattern:
      return `is not ${description ?? `of the form ${pattern}`}`
    case ValueErrorType.Union:
      return anyOf?.every((one) => one.const !== undefined) === true
        ? `is none of ${anyOf.map((one) => String(one.const)).join(', ')}`
        : message
    default:
      return message.replace(/^Expected (array|object|string|boolean|number|integer)$/, (_, wanted: string) =>
        /^[aeiou]/.test(wanted) ? `has to be an ${wanted}` : `has to be a ${wanted}`,
      )
  }
}

export const NAME_RULE = 'lower-case letters, digits and hyphens, at most 63, beginning with a letter or digit'
