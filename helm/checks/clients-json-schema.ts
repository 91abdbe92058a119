import { join } from 'node:path'
import { checkingProducer } from '../../producer/testing/checked.ts'
import { compileSchema } from '../../shared/schemas/schema.ts'
import type { Check } from './check.ts'
import { tool } from './tools.ts'

/** JSON Schema's own test suite, each of its data sent to a producer on Kafka in memory as an event whose type has the schema. */

const DRAFTS = {
  'draft2020-12': 'https://json-schema.org/draft/2020-12/schema',
  draft7: 'http://json-schema.org/draft-07/schema#',
} as const

interface Group {
  description: string
  schema: unknown
  tests: { description: string; data: unknown; valid: boolean }[]
}

/** Where we differ from the suite, by file and, where there is one, group; and why. An entry that nothing needs any more is a fault. */
const DIFFERENCES: readonly { file: RegExp; group?: RegExp; why: string }[] = [
  {
    file: /./,
    group: /remote|base URI change|^retrieved nested|^\$ref to \$ref finds|detached/i,
    why: 'nothing is fetched',
  },
  { file: /vocabulary|format-assertion/, why: 'metaschemas other than the drafts’ own are not known' },
  { file: /cross-draft/, why: 'one schema is of one draft, and nothing is fetched' },
  { file: /./, group: /dynamicRef|dynamicAnchor|^strict-tree|dynamic anchor/i, why: '$dynamicRef is not supported' },
  { file: /draft2020-12\/format\.json/, why: 'format is an assertion' },
  { file: /format\/(idn-|iri)/, why: 'formats that ajv-formats does not know are annotations' },
  { file: /format\/email/, why: 'e-mail addresses with quoted or literal parts are refused, by ajv-formats' },
  { file: /format\/ecmascript-regex/, why: 'the format regex is checked as the runtime compiles it' },
  {
    file: /optional\/ecmascript-regex/,
    group: /unicode semantics|non-ASCII digits/,
    why: 'RE2 does not know long names of Unicode properties',
  },
  { file: /draft7\/optional\/content/, why: 'contentEncoding and contentMediaType are annotations' },
  {
    file: /\/properties\.json/,
    group: /Javascript object property names/,
    why: 'a member __proto__ of properties is not checked, by Ajv',
  },
  { file: /draft7\/ref\.json/, group: /sibling/, why: 'what stands beside a $ref counts in draft-07, too' },
  {
    file: /draft2020-12\/ref\.json/,
    group: /relative (uris|refs)|nested pointer ref/,
    why: 'Ajv cannot compile these references',
  },
  { file: /unknownKeyword/, why: 'Ajv takes an $id in an unknown keyword for one' },
  { file: /unevaluated(Items|Properties)\.json/, why: 'Ajv does not see everything that was evaluated' },
]

interface Case {
  where: string
  file: string
  group: string
  type: string
  data: unknown
  valid: boolean
}

export const jsonSchemaSuite: Check = {
  name: 'JSON Schema’s own test suite, through the producer',
  counts: 'data of the suite',
  async run(say) {
    const suite = await tool('json-schema-suite', say)
    const schemas: Record<string, unknown[]> = {}
    const cases: Case[] = []
    const faults: string[] = []
    const needed = new Set<string>()
    /** @returns whether a difference is one of those that are known */
    const isKnown = (file: string, group: string): boolean => {
      const found = DIFFERENCES.filter((one) => one.file.test(file) && (one.group?.test(group) ?? true))
      for (const { why } of found) needed.add(why)
      return found.length > 0
    }
    for (const [draft, uri] of Object.entries(DRAFTS))
      for (const path of [...new Bun.Glob(`${draft}/**/*.json`).scanSync(suite)].sort()) {
        const groups = (await Bun.file(join(suite, path)).json()) as Group[]
        for (const { description, schema, tests } of groups) {
          const isObject = typeof schema === 'object' && schema !== null
          const document = isObject && !('$schema' in schema) ? { $schema: uri, ...schema } : schema
          const compiled = compileSchema(document)
          if (!compiled.ok) {
            if (!isKnown(path, description))
              faults.push(`${path}, ${description}: refused: ${compiled.faults.join('; ')}`)
            continue
          }
          const type = `suite.${Object.keys(schemas).length}`
          schemas[`default.events-${type}`] = [document]
          for (const { description: what, data, valid } of tests)
            cases.push({ where: `${path}, ${description}, ${what}`, file: path, group: description, type, data, valid })
        }
      }
    say(`${cases.length} data`)
    const { send } = await checkingProducer({ otherTypes: 'refuse' }, schemas)
    let passed = 0
    for (const { where, file, group, type, data, valid } of cases) {
      const { status } = await send({ type, data })
      if (status === (valid ? 202 : 422)) passed++
      else if (!isKnown(file, group)) faults.push(`${where}: ${status}, and it is ${valid ? 'valid' : 'invalid'}`)
    }
    for (const { why } of DIFFERENCES) if (!needed.has(why)) faults.push(`no difference any more: ${why}`)
    return { passed, faults }
  },
}
