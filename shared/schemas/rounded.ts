import { type JsonSchema, subSchemas } from './json-schema.ts'

/** A number that JavaScript writes otherwise than it stands in a text. */
class Rounded {
  constructor(
    readonly source: string,
    readonly number: number,
  ) {}
}

type Parse = (
  text: string,
  reviver: (name: string, value: unknown, context: { source?: string }) => unknown,
) => JsonSchema
const parse = JSON.parse as Parse

/**
 * Numbers in `const` and `enum` that a constant in TypeScript would not have as they stand, such as 12345678901234567890 and 1e400.
 * @param text a schema
 * @returns each with a pointer to its keyword, and what it would be
 */
export function roundedValues(text: string): string[] {
  const schema = parse(text, (_, value, { source = '' }) =>
    typeof value === 'number' && digitsOf(String(value)) !== digitsOf(source) ? new Rounded(source, value) : value,
  )
  return roundedIn(schema, '')
}

function roundedIn(schema: JsonSchema, pointer: string): string[] {
  if (typeof schema === 'boolean') return []
  return [
    ...['const', 'enum'].flatMap((keyword) =>
      valuesIn(schema[keyword]).map(
        ({ source, number }) => `${pointer}/${keyword}: ${source} is ${number} in JavaScript`,
      ),
    ),
    ...subSchemas(schema).flatMap((inner) => roundedIn(inner.schema, pointer + inner.pointer)),
  ]
}

function valuesIn(value: unknown): Rounded[] {
  if (value instanceof Rounded) return [value]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(valuesIn) : []
}

const NUMBER = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i

/** The same for all ways to write a number, such as 1.0 and 10e-1. Infinity has none. */
function digitsOf(number: string): string {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = NUMBER.exec(number) ?? []
  const digits = (whole + fraction).replace(/^0+/, '')
  const significant = digits.replace(/0+$/, '')
  const power = Number(exponent) - fraction.length + digits.length - significant.length
  if (whole === '') return ''
  return significant === '' ? '0' : `${sign}${significant}e${power}`
}
