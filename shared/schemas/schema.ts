import Ajv, { type ErrorObject, type FuncKeywordDefinition, type Options, str, type ValidateFunction } from 'ajv'
import Ajv2020 from 'ajv/dist/2020.js'
import { anyJson, outlineJson, placed } from '../events/json.ts'
import { pointerTo, stepsOf } from '../events/json-pointer.ts'
import { CallTimeoutError, callWithin } from '../service/call-within.ts'
import { messageOf } from '../service/thrown.ts'
import { type Bounds, schemaBounds } from './bounds.ts'
import { isMultiple } from './decimals.ts'
import { addBoundedFormats } from './formats.ts'
import { type Draft, isSchema, type JsonSchema, mapSchemas } from './json-schema.ts'
import { patternOf } from './patterns.ts'
import { CHECK_TIMEOUT_MS, type Compiled, LATE, MAX_SCHEMA_BYTES, type Schema, type SchemaFault } from './verdict.ts'

/**
 * A JSON Schema, and what it says about data. Producer, consumer and the `schema` command all compile and check here, so that their verdicts are the same.
 *
 * Ajv compiles it. `format` is an assertion for the formats that `ajv-formats` knows. Unknown formats and keywords are annotations. Nothing is ever fetched.
 */

const MAX_DEPTH = 64
const TEXT_LIMITS = anyJson(MAX_DEPTH)

/** Larger data may have more faults than are worth making: one for each element of an array. */
const ALL_FAULTS_BYTES = 64 * 1024

/** With fewer steps, a check takes some 10 ms at most: its time need not be watched, which takes a microsecond. */
const UNWATCHED_STEPS = 1_000_000

const OPTIONS: Options = {
  strict: false,
  inlineRefs: false,
  logger: false,
  // Optimising takes longer than compiling, and most of it is done by the runtime anyway.
  code: { optimize: false, regExp: Object.assign((pattern: string) => patternOf(pattern), { code: '' }) },
}

/** Checks schemas by their drafts' own. Made when they are first needed: compiling one of those takes some 20 ms. */
const checkers = new Map<Draft, Ajv>()

/** What is wrong with a schema by its draft's own. */
function faultsBy(draft: Draft, document: JsonSchema): string[] {
  const checker = checkers.getOrInsertComputed(draft, () => engineOf(draft, OPTIONS))
  if (checker.validateSchema(document) === true) return []
  const faults = new Map<string, string>()
  // Of several at one place, the first says what is wrong; the others are about forms that it does not have.
  for (const { pointer, detail } of faultsOf(checker.errors ?? [], document, new Set()))
    if (!faults.has(pointer)) faults.set(pointer, `${pointer}: ${detail}`)
  return [...faults.values()]
}

const engineOf = (draft: Draft, options: Options): Ajv =>
  addBoundedFormats(draft === 'draft-07' ? new Ajv(options) : new Ajv2020(options))
    .removeKeyword('multipleOf')
    .addKeyword(MULTIPLE_OF)

/** Ajv divides, and takes 19.99 for no multiple of 0.01. */
const MULTIPLE_OF: FuncKeywordDefinition = {
  keyword: 'multipleOf',
  type: 'number',
  schemaType: 'number',
  validate: (of: number, value: number) => isMultiple(value, of),
  error: { message: ({ schemaCode }) => str`must be a multiple of ${schemaCode}` },
}

/** Keywords that mean something to Ajv, and nothing in JSON Schema. `$async` would give promises in place of verdicts. */
const AJVS_OWN = new Set(['$async', '$data', 'discriminator', 'id', 'nullable'])

const withoutAjvsOwn = (document: JsonSchema): JsonSchema =>
  mapSchemas(document, (schema) => Object.fromEntries(Object.entries(schema).filter(([name]) => !AJVS_OWN.has(name))))

/** In an engine of its own: an engine keeps every $id in a schema that it has ever seen, and versions of a schema have the same. */
function compiledBy(document: JsonSchema, draft: Draft, bounds: Bounds, allErrors: boolean): ValidateFunction {
  return engineOf(draft, {
    ...OPTIONS,
    // Stopping at the first fault, Ajv skips `contains` beside `prefixItems`.
    allErrors: allErrors || bounds.usesContains,
    // Checked before.
    validateSchema: false,
    meta: bounds.refersToDraft,
    // Or `required: ["toString"]` would be fulfilled by every object. Only for such names, since it takes a third of the time.
    ownProperties: [...bounds.names].some((name) => name in Object.prototype),
  }).compile(withoutAjvsOwn(document) as object)
}

const DRAFTS: Readonly<Record<string, Draft>> = {
  'https://json-schema.org/draft/2020-12/schema': '2020-12',
  'http://json-schema.org/draft-07/schema': 'draft-07',
}

/** Reads a schema from JSON. */
export function readSchema(bytes: Buffer): Compiled {
  if (bytes.length > MAX_SCHEMA_BYTES)
    return refused(`has ${bytes.length} bytes; a schema may have ${MAX_SCHEMA_BYTES}`)
  const outlined = outlineJson(bytes, TEXT_LIMITS)
  if (!outlined.ok)
    return refused(
      outlined.fault.reason === 'too deep'
        ? `is nested more than ${MAX_DEPTH} levels deep`
        : `is no JSON: ${placed(outlined.fault.detail, bytes)}`,
    )
  return compileSchema(JSON.parse(bytes.toString('utf8')), bytes.length)
}

const refused = (...faults: string[]): Compiled => ({ ok: false, faults })

/**
 * Compiles a schema, which may be anybody's: its size, depth, references and regular expressions are bounded.
 * @param bytes as JSON, where that is known
 */
export function compileSchema(document: unknown, bytes?: number): Compiled {
  if (!isSchema(document)) return refused('is no schema: a schema is an object or a boolean')
  const schema = document
  if (bytes === undefined) return readSchema(Buffer.from(JSON.stringify(schema)))
  const declared = typeof schema === 'object' ? schema['$schema'] : undefined
  const draft = declared === undefined ? '2020-12' : DRAFTS[String(declared).replace(/#$/, '')]
  if (draft === undefined)
    return refused(`/$schema: ${String(declared)} is not known: ${Object.keys(DRAFTS).join(' or ')}`)
  const bounds = schemaBounds(schema, draft)
  const faults = [...bounds.faults, ...faultsBy(draft, schema)]
  if (faults.length > 0) return refused(...faults)
  try {
    const first = compiledBy(schema, draft, bounds, false)
    return { ok: true, schema: new AjvSchema(schema, draft, first, bounds) }
  } catch (error) {
    return refused(error instanceof RangeError ? 'is too large to be compiled' : messageOf(error))
  }
}

class AjvSchema implements Schema {
  #all: ValidateFunction | undefined

  constructor(
    readonly document: JsonSchema,
    readonly draft: Draft,
    readonly first: ValidateFunction,
    readonly bounds: Bounds,
  ) {}

  check(data: unknown, dataBytes?: number): boolean {
    return this.#run(this.first, data, dataBytes) === true
  }

  faults(data: unknown, dataBytes?: number): readonly SchemaFault[] {
    const first = this.#run(this.first, data, dataBytes)
    if (first === true) return NO_FAULTS
    if (first === 'late') return LATE
    if (typeof first === 'string') return [{ pointer: '', knownPointer: '', detail: first }]
    if (dataBytes !== undefined && dataBytes > ALL_FAULTS_BYTES) return this.#faultsOf(this.first, data)
    this.#all ??= compiledBy(this.document, this.draft, this.bounds, true)
    const all = this.#run(this.#all, data, dataBytes)
    // Finding all of them may take too long where finding one did not.
    return typeof all === 'string' ? this.#firstOf(data, dataBytes) : this.#faultsOf(this.#all, data)
  }

  #firstOf(data: unknown, dataBytes: number | undefined): readonly SchemaFault[] {
    this.#run(this.first, data, dataBytes)
    return this.#faultsOf(this.first, data)
  }

  #faultsOf({ errors }: ValidateFunction, data: unknown): SchemaFault[] {
    const faults = faultsOf(errors ?? [], data, this.bounds.names)
    return faults.length > 0 ? faults : [{ pointer: '', knownPointer: '', detail: 'is refused by its schema' }]
  }

  /** @returns why it cannot be checked, in place of a verdict */
  #run(validate: ValidateFunction, data: unknown, dataBytes: number | undefined): boolean | string {
    const { weight } = this.bounds
    try {
      if (dataBytes === undefined || weight * dataBytes < UNWATCHED_STEPS) return validate(data) === true
      return callWithin(CHECK_TIMEOUT_MS, () => validate(data) === true)
    } catch (error) {
      if (error instanceof CallTimeoutError) return 'late'
      return `cannot be checked by its schema: ${error instanceof RangeError ? 'it is nested too deeply' : messageOf(error)}`
    }
  }
}

const NO_FAULTS: readonly SchemaFault[] = []

function faultsOf(errors: readonly ErrorObject[], data: unknown, names: ReadonlySet<string>): SchemaFault[] {
  const found = new Map<string, SchemaFault>()
  for (const error of errors) {
    // That a branch was not matched is said besides what it did not match.
    if (error.keyword === 'if' && errors.length > 1) continue
    // So it is with what is wrong with a name.
    if (error.propertyName !== undefined && error.keyword !== 'propertyNames') continue
    const pointer = error.instancePath + memberOf(error)
    const fault = { pointer, knownPointer: knownPointer(pointer, data, names), detail: detailOf(error) }
    found.set(`${fault.pointer} ${fault.detail}`, fault)
  }
  return [...found.values()]
}

function knownPointer(pointer: string, data: unknown, names: ReadonlySet<string>): string {
  let known = ''
  let at = data
  for (const step of stepsOf(pointer)) {
    known += pointerTo(Array.isArray(at) || names.has(step) ? step : '…')
    at = typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[step] : undefined
  }
  return known
}

/** The member that is missing or too much. */
function memberOf({ keyword, params }: ErrorObject): string {
  const { missingProperty, additionalProperty, unevaluatedProperty, propertyName } = params as Record<string, unknown>
  const name =
    keyword === 'propertyNames' ? propertyName : (missingProperty ?? additionalProperty ?? unevaluatedProperty)
  return typeof name === 'string' ? pointerTo(name) : ''
}

const MAX_VALUES_CHARS = 200

function detailOf({ keyword, message = 'is refused by its schema', params }: ErrorObject): string {
  const { allowedValues, allowedValue, property } = params as Record<string, unknown>
  switch (keyword) {
    case 'required':
      return 'is required'
    case 'dependentRequired':
    case 'dependencies':
      return `is required where ${String(property)} is given`
    case 'additionalProperties':
    case 'unevaluatedProperties':
    case 'false schema':
      return 'is not allowed'
    case 'propertyNames':
      return 'is no name that is allowed'
    case 'enum':
      return `must be one of ${shortened(JSON.stringify(allowedValues).slice(1, -1))}`
    case 'const':
      return `must be ${shortened(JSON.stringify(allowedValue))}`
    case 'anyOf':
      return 'must match at least one of the forms in anyOf'
    case 'oneOf':
      return 'must match exactly one of the forms in oneOf'
    default:
      return message.replace('must NOT', 'must not')
  }
}

const shortened = (text: string): string =>
  text.length <= MAX_VALUES_CHARS ? text : `${text.slice(0, MAX_VALUES_CHARS).toWellFormed()}…`
