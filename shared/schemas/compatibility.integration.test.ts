import { afterAll, beforeAll, expect, test } from 'bun:test'
import { startRegistry, type TestRegistry } from '../testing/registry.ts'
import { SchemaCorpus } from '../testing/schema-corpus.ts'
import { checkCompatibility, type Incompatibility } from './compatibility.ts'
import { Nodes } from './evolution/nodes.ts'
import { Samples } from './evolution/samples.ts'
import { Work } from './evolution/work.ts'
import { compileSchema } from './schema.ts'
import type { Schema } from './verdict.ts'

/** Our verdicts beside those of a real registry, for many changes of many schemas: wherever the two differ, the cause has a name and our side is proven. */

const SEED = 17
const FAMILIES = 500
const CHANGES = 4
const TEST_TIMEOUT_MS = 300_000
const CALLS_AT_ONCE = 6

type Direction = Incompatibility['direction']

interface Compared {
  direction: Direction
  change: string
  subject: string
  older: object
  newer: object
  writer: Schema
  reader: Schema
  ours: Incompatibility[]
}

interface Difference extends Compared {
  /** The registry says that it is compatible, and we do not. */
  isTaken: boolean
  /** What the registry objects to. */
  reasons: string[]
}

interface Cause {
  name: string
  /** So many differences have it. */
  times: number
  explains(difference: Difference): boolean
}

/** The registry refuses what is proven to be compatible, after one of these changes, for such reasons. */
const refuses = (name: string, times: number, reasons: RegExp, ...changes: string[]): Cause => ({
  name,
  times,
  explains: (found) =>
    !found.isTaken && changes.includes(found.change) && found.reasons.every((reason) => reasons.test(reason)),
})

/** The registry takes what an example shows not to be compatible. */
const takes = (name: string, times: number, explains: (found: Difference) => boolean): Cause => ({
  name,
  times,
  explains: (found) => found.isTaken && explains(found),
})

const FORM = /^(SUBSCHEMA_TYPE_CHANGED|COMBINED_TYPE_\w+|OBJECT_TYPE_ADDITIONAL_PROPERTIES_(NARROWED|SCHEMA_CHANGED))$/
const ADDED = /^OBJECT_TYPE_PROPERTY_SCHEMAS_(NARROWED|CHANGED)$/
const NARROWED = /^OBJECT_TYPE_PROPERTY_SCHEMAS_NARROWED$/
const CHANGED =
  /^(OBJECT_TYPE_PROPERTY_SCHEMAS_CHANGED|OBJECT_TYPE_ADDITIONAL_PROPERTIES_SCHEMA_CHANGED|COMBINED_TYPE_ANY_OF_SIZE_DECREASED)$/
const LIMIT =
  /^((STRING|NUMBER|ARRAY)_TYPE_|OBJECT_TYPE_(MIN|MAX)_|OBJECT_TYPE_PROPERTY_(DEPENDENCIES_|SCHEMA_ADDED)|COMBINED_|OBJECT_TYPE_ADDITIONAL_PROPERTIES_NARROWED)/

const documents = ({ older, newer }: Difference): string => JSON.stringify([older, newer])
const hasUuid = (found: Difference): boolean => documents(found).includes('"format":"uuid"')
/** Keywords that the registry, which knows draft-07, takes for annotations. */
const isOf2020 = (found: Difference): boolean =>
  found.ours.every(({ pointer }) => /\/(prefixItems|dependentRequired)(\/|$)/.test(pointer)) ||
  (found.change === 'lengthen a tuple' && documents(found).includes('"prefixItems":'))

const CAUSES: Cause[] = [
  refuses(
    'the same in another form: allOf, oneOf, a list of types',
    110,
    FORM,
    'wrap in allOf',
    'anyOf to oneOf',
    'forms to a list of types',
  ),
  refuses('a type more or less in a list of types', 86, FORM, 'take null, too', 'take one type less'),
  refuses('not, of what was not taken', 109, FORM, 'refuse with not'),
  refuses('a condition beside other keywords', 89, FORM, 'add a condition'),
  refuses('a property without constraints in an open object', 43, ADDED, 'add a property without constraints'),
  refuses(
    'a property whose name propertyNames refuses',
    2,
    NARROWED,
    'add an optional property',
    'add a required property',
  ),
  refuses(
    'values that a schema of another form takes, too',
    6,
    CHANGED,
    'add an optional property',
    'add a required property',
    'give additional properties a schema',
    'add a form',
  ),
  refuses('the same bounds of whole numbers', 12, LIMIT, 'count integers from 1 instead of above 0'),
  refuses(
    'a limit that other keywords set already',
    75,
    LIMIT,
    'add a dependency',
    'remove a dependency',
    'add contains',
    'remove contains',
    'add maxLength',
    'add minItems',
    'add pattern',
    'raise minProperties',
    'change propertyNames',
    'remove propertyNames',
    'integer to number',
  ),
  takes('keywords of 2020-12 are unknown to it', 29, isOf2020),
  takes(
    'the format uuid is unknown to it',
    21,
    (found) =>
      !isOf2020(found) && hasUuid(found) && found.ours.every(({ pointer }) => /\/(format|anyOf|oneOf)$/.test(pointer)),
  ),
  takes(
    'a property that is removed is not compared with the schema of additional properties',
    1,
    ({ change }) => change === 'remove a property',
  ),
]

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
}, TEST_TIMEOUT_MS)
afterAll(() => registry.stop(), TEST_TIMEOUT_MS)

async function post(url: string, body: object, type: string): Promise<unknown> {
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': type }, body: JSON.stringify(body) })
  return response.json()
}

/** As draft-07, which it knows; a document of 2020-12 that says so is refused. */
const forRegistry = (document: object): string =>
  JSON.stringify({ ...document, $schema: 'http://json-schema.org/draft-07/schema#' })

async function isCompatible(subject: string, newer: object): Promise<boolean> {
  const url = `${registry.url}/compatibility/subjects/${subject}/versions/latest`
  const body = { schemaType: 'JSON', schema: forRegistry(newer) }
  const answer = (await post(url, body, 'application/vnd.schemaregistry.v1+json')) as { is_compatible?: boolean }
  if (answer.is_compatible === undefined) throw new Error(`no verdict: ${JSON.stringify(answer)}`)
  return answer.is_compatible
}

/** Its own API says why. */
async function reasonsOf(subject: string, newer: object): Promise<string[]> {
  const url = `${registry.url.replace('/ccompat/v7', '/registry/v3')}/groups/default/artifacts/${subject}/versions?dryRun=true`
  const body = { content: { content: forRegistry(newer), contentType: 'application/json' } }
  const answer = (await post(url, body, 'application/json')) as { causes?: { description: string }[] }
  return (answer.causes ?? []).map(({ description }) => description)
}

async function atOnce<T>(list: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const rest = list.values()
  await Promise.all(
    Array.from({ length: CALLS_AT_ONCE }, async () => {
      for (const one of rest) await work(one)
    }),
  )
}

function compiled(document: object): Schema {
  const result = compileSchema(document)
  if (!result.ok) throw new Error(result.faults.join('; '))
  return result.schema
}

function compare(subject: string, older: object, change: string, newer: object): Compared[] {
  const [one, other] = [compiled(older), compiled(newer)]
  const found = checkCompatibility('FULL', [{ version: 1, schema: one }], other)
  const both = { change, subject, older, newer }
  const of = (direction: Direction): Incompatibility[] => found.filter((reason) => reason.direction === direction)
  return [
    { ...both, direction: 'backward', writer: one, reader: other, ours: of('backward') },
    { ...both, direction: 'forward', writer: other, reader: one, ours: of('forward') },
  ]
}

/** Data of the writer's: what is made for it, and the examples that were found for its kin. */
function dataOf(writer: Schema, kin: readonly unknown[]): unknown[] {
  const arena = new Nodes()
  const made = new Samples(arena, new Work(200_000)).of([arena.of(writer)])
  return [...made, ...kin].filter((data) => writer.check(data))
}

const examplesIn = (found: readonly Incompatibility[]): unknown[] =>
  found.flatMap(({ example }) => (example === undefined ? [] : [example.data]))

/** That it is compatible, by data; or that it is not, by an example. */
function prove({ isTaken, ours, writer, reader, older, newer }: Difference, kin: readonly unknown[]): void {
  if (isTaken) expect(examplesIn(ours).some((data) => writer.check(data) && !reader.check(data))).toBe(true)
  else
    for (const data of dataOf(writer, kin))
      expect({ data, older, newer, isRead: reader.check(data) }).toMatchObject({ isRead: true })
}

test(
  'each verdict that differs from a registry’s has a named cause, and is proven',
  async () => {
    const corpus = new SchemaCorpus(SEED)
    const families = Array.from({ length: FAMILIES }, (_, index) => ({
      subject: `s${index}`,
      ...corpus.family(CHANGES),
    }))
    const compared = families.flatMap(({ subject, older, changed }) =>
      changed.flatMap(({ change, newer }) => compare(subject, older, change, newer)),
    )
    expect(compared).toHaveLength(FAMILIES * CHANGES * 2)
    await atOnce(families, async ({ subject, older }) => {
      await registry.register(subject, JSON.parse(forRegistry(older)))
    })
    const differences: Difference[] = []
    for (const direction of ['backward', 'forward'] as const) {
      await registry.setCompatibility(direction.toUpperCase())
      await atOnce(
        compared.filter((one) => one.direction === direction),
        async (one) => {
          const theirs = await isCompatible(one.subject, one.newer)
          if (theirs === (one.ours.length === 0)) return
          differences.push({ ...one, isTaken: theirs, reasons: theirs ? [] : await reasonsOf(one.subject, one.newer) })
        },
      )
    }
    const examples = Map.groupBy(compared, ({ subject }) => subject)
    const counts: Record<string, number> = {}
    const unexplained: object[] = []
    for (const found of differences) {
      const [cause = '', ...others] = CAUSES.filter((one) => one.explains(found)).map(({ name }) => name)
      const { direction, change, reasons, ours, older, newer } = found
      if (cause === '' || others.length > 0)
        unexplained.push({ causes: [cause, ...others], direction, change, reasons, ours, older, newer })
      counts[cause] = (counts[cause] ?? 0) + 1
      prove(
        found,
        (examples.get(found.subject) ?? []).flatMap(({ ours: all }) => examplesIn(all)),
      )
    }
    expect(unexplained).toEqual([])
    expect(counts).toEqual(Object.fromEntries(CAUSES.map(({ name, times }) => [name, times])))
  },
  TEST_TIMEOUT_MS,
)

test(
  'a schema of 2020-12 that says so has no verdict of the registry',
  async () => {
    const schema = { $schema: 'https://json-schema.org/draft/2020-12/schema', type: 'object', properties: {} }
    await registry.register('of-2020', schema)
    await registry.setCompatibility('BACKWARD')
    const url = `${registry.url}/compatibility/subjects/of-2020/versions/latest`
    const body = { schemaType: 'JSON', schema: JSON.stringify({ ...schema, title: 'T' }) }
    expect(await post(url, body, 'application/vnd.schemaregistry.v1+json')).toMatchObject({
      message: expect.stringContaining('could not determine version'),
    })
  },
  TEST_TIMEOUT_MS,
)
