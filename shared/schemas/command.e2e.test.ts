import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { run } from '../dev/run.ts'

/** The command as it is typed, in repositories of Git. */

const ROOT = join(import.meta.dir, '..', '..')
const TIMEOUT_MS = 120_000
let home: string
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'kafkatrace-schema-'))
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

async function schema(...args: string[]): Promise<{ code: number; out: string[]; said: string }> {
  const { exitCode, output, errors } = await run([process.execPath, 'run', '--silent', 'schema', ...args], {
    cwd: ROOT,
  })
  return { code: exitCode, out: output.trimEnd().split('\n'), said: errors }
}

async function git(folder: string, ...args: string[]): Promise<void> {
  const as = ['-c', 'user.name=a', '-c', 'user.email=a@example.com', '-c', 'init.defaultBranch=main']
  const { exitCode, errors } = await run(['git', '-C', folder, ...as, ...args])
  if (exitCode !== 0) throw new Error(errors)
}

function write(path: string, document: unknown): string {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, typeof document === 'string' ? document : JSON.stringify(document))
  return path
}

/** In the checkout, so that the compiler finds what it needs. */
function newProject(): string {
  mkdirSync(join(ROOT, '.tmp'), { recursive: true })
  return mkdtempSync(join(ROOT, '.tmp', 'types-'))
}

const ORDER = { type: 'object', required: ['total'], properties: { total: { type: 'number' } } }
const WITH_NOTE = {
  ...ORDER,
  properties: { ...ORDER.properties, note: { type: 'string' } },
  required: ['total', 'note'],
}

test(
  'two files are compared',
  async () => {
    const older = write(join(home, 'files', 'older.json'), ORDER)
    const newer = write(join(home, 'files', 'newer.json'), WITH_NOTE)
    const backward = await schema('check', older, newer)
    expect(backward.out[0]).toBe(`${newer} is not compatible with ${older} (BACKWARD)`)
    expect(backward.out[1]).toStartWith('  /required/1: ')
    expect(backward.out[2]).toBe('    the old file takes this, the new file does not: {"total":1}')
    expect(backward.code).toBe(1)
    expect(await schema('check', newer, older, '--mode', 'BACKWARD')).toMatchObject({ code: 0 })
    expect((await schema('check', older, join(home, 'none.json'))).said).toContain('none.json: there is no such file')
    expect(await schema('check', older, write(join(home, 'files', 'no.json'), '{'))).toMatchObject({ code: 2 })
    expect(await schema('check', older, newer, '--mode', 'SIDEWARD')).toMatchObject({ code: 64 })
  },
  TIMEOUT_MS,
)

test(
  'a folder is compared with the last commit, and with another',
  async () => {
    const repository = join(home, 'a repository')
    const schemas = join(repository, 'my schemas')
    const file = (version: number) => join(schemas, 'orders', `acme.orders-order.placed.v${version}.json`)
    await git(home, 'init', '--quiet', repository)
    write(file(1), ORDER)
    expect(await schema('check', '--dir', schemas)).toMatchObject({
      code: 0,
      out: [
        'compared with nothing, since there is no commit yet',
        'orders/acme.orders-order.placed.v1.json: new, with nothing before it to be compared with',
        '1 version: 1 new',
      ],
    })
    await git(repository, 'add', '--all')
    await git(repository, 'commit', '--quiet', '--message', 'a')
    await git(repository, 'branch', 'base')
    write(file(2), WITH_NOTE)
    const refused = await schema('check', '--dir', schemas)
    expect(refused.out[0]).toMatch(/^compared with HEAD \([0-9a-f]{10}\)$/)
    expect(refused.out[1]).toBe('orders/acme.orders-order.placed.v1.json: as it was')
    expect(refused.out[2]).toBe(
      'orders/acme.orders-order.placed.v2.json: new, not compatible with version 1 (BACKWARD)',
    )
    expect(refused.out[3]).toStartWith('    /required/1: ')
    expect(refused.out[4]).toBe('      version 1 takes this, version 2 does not: {"total":1}')
    expect(refused.out.at(-1)).toBe('2 versions: 1 unchanged, 1 not compatible')
    expect(refused.code).toBe(1)
    const json = await schema('check', '--dir', schemas, '--json')
    expect(JSON.parse(json.out.join(''))).toMatchObject({
      compatible: false,
      versions: [{ verdict: 'unchanged' }, { verdict: 'incompatible', failed: true, against: [1] }],
    })
    // Committed, it is no longer new for the last commit, but still for the base of the branch.
    await git(repository, 'add', '--all')
    await git(repository, 'commit', '--quiet', '--message', 'b')
    expect(await schema('check', '--dir', schemas)).toMatchObject({ code: 0 })
    expect(await schema('check', '--dir', schemas, '--against', 'base')).toMatchObject({ code: 1 })
    expect(await schema('check', '--dir', schemas, '--against', 'base', '--mode', 'FORWARD')).toMatchObject({ code: 0 })
    const absent = await schema('check', '--dir', schemas, '--against', 'origin/main')
    expect(absent.said).toContain('origin/main is no commit of this repository')
    expect(absent.code).toBe(2)
  },
  TIMEOUT_MS,
)

test(
  'a change of a schema breaks the build of the handler that it breaks',
  async () => {
    const project = newProject()
    try {
      const schemas = join(project, 'schemas')
      const out = join(project, 'schemas.ts')
      write(join(schemas, 'acme.orders-order.placed.v1.json'), ORDER)
      write(
        join(project, 'handler.ts'),
        `import { defineHandler, jsonSchema } from 'kafkatrace'
import { type OrderPlacedV1, OrderPlacedV1Schema } from './schemas.ts'

export const handlers = [
  defineHandler({
    type: 'order.placed',
    version: '1',
    schema: jsonSchema<OrderPlacedV1>(OrderPlacedV1Schema),
    handle: ({ total }) => ({ data: { total: total.toFixed(2) } }),
  }),
]
`,
      )
      write(join(project, 'tsconfig.json'), {
        extends: join(ROOT, 'tsconfig.json'),
        include: [],
        files: ['handler.ts'],
      })
      const compile = async (): Promise<string> =>
        (await run([process.execPath, 'x', 'tsc', '--project', project], { cwd: project })).output
      expect(await schema('types', schemas, '--out', out)).toMatchObject({ code: 0 })
      expect(await compile()).toBe('')
      expect(await schema('types', schemas, '--out', out, '--check')).toMatchObject({ code: 0 })
      write(join(schemas, 'acme.orders-order.placed.v1.json'), { ...ORDER, required: [] })
      expect(await schema('types', schemas, '--out', out, '--check')).toMatchObject({ code: 1 })
      expect(await schema('types', schemas, '--out', out)).toMatchObject({ code: 0 })
      expect(await compile()).toMatch(/^handler\.ts.*'total' is possibly 'undefined'/)
    } finally {
      rmSync(project, { recursive: true, force: true })
    }
  },
  TIMEOUT_MS,
)

test(
  'the types of all that schemas have compile, and nothing of a schema gets into the code',
  async () => {
    const project = newProject()
    try {
      const schemas = join(project, 'schemas')
      const address = { type: 'object', title: 'Address', properties: { street: { type: 'string' } } }
      for (const version of [1, 2])
        write(join(schemas, `a.v${version}.json`), {
          $id: 'https://example.com/a',
          type: 'object',
          title: 'Order */ export const stolen = 1 /*',
          description: '*/ export const stolen = 1 /*',
          tsType: 'typeof import("node:fs")',
          properties: {
            ...(JSON.parse('{"__proto__":{"type":"string"}}') as object),
            node: { type: 'object', properties: { child: { $ref: '#/properties/node' } } },
            "it's": { const: "it's" },
            billing: { $ref: '#/$defs/Address' },
            shipping: address,
            pair: { type: 'array', prefixItems: [{ type: 'string' }, { type: 'number' }], items: false },
            tree: { $ref: '#/$defs/tree' },
            any: true,
            state: { enum: ['a', 'b', null], tsEnumNames: ['A', 'B', 'C'] },
          },
          patternProperties: { '^x-': { type: 'number' } },
          $defs: {
            Address: address,
            tree: { type: 'object', properties: { children: { type: 'array', items: { $ref: '#/$defs/tree' } } } },
          },
        })
      write(join(schemas, 'b.v1.json'), {
        $schema: 'http://json-schema.org/draft-07/schema#',
        definitions: { tree: { type: 'object', properties: { next: { $ref: '#/definitions/tree' } } } },
        oneOf: [{ $ref: '#/definitions/tree' }, { type: 'null' }],
      })
      write(join(schemas, 'c.v1.json'), true)
      write(join(schemas, 'd.v1.json'), { type: 'object', properties: { self: { $ref: '#' } } })
      const out = join(project, 'schemas.ts')
      expect((await schema('types', schemas, '--out', out)).said).toContain('5 versions')
      const options = ['--ignoreConfig', '--noEmit', '--strict', '--types', '']
      const { exitCode, output } = await run([process.execPath, 'x', 'tsc', ...options, out], { cwd: project })
      expect(output).toBe('')
      expect(exitCode).toBe(0)
      const { stolen, ...others } = (await import(out)) as Record<string, unknown>
      expect(stolen).toBeUndefined()
      expect(Object.keys(others).sort()).toEqual(['AV1Schema', 'AV2Schema', 'BV1Schema', 'CV1Schema', 'DV1Schema'])
      expect(Object.keys((others['AV1Schema'] as { properties: object }).properties)).toContain('__proto__')
      const text = await Bun.file(out).text()
      // Only the documents have what the schemas say besides.
      expect(text.match(/typeof import/g)).toHaveLength(2)
      const names = [...text.matchAll(/^export \w+ (\w+)/gm)].map(([, name]) => name)
      expect(new Set(names).size).toBe(names.length)
    } finally {
      rmSync(project, { recursive: true, force: true })
    }
  },
  TIMEOUT_MS,
)

test(
  'nothing that a schema names is fetched',
  async () => {
    let asked = 0
    const server = Bun.serve({
      hostname: '127.0.0.1',
      port: 0,
      fetch: () => {
        asked++
        return Response.json({ type: 'string' })
      },
    })
    const elsewhere = `http://127.0.0.1:${server.port}/a.json`
    try {
      const own = {
        $id: elsewhere,
        properties: { a: { $ref: `${elsewhere}#/$defs/a` } },
        $defs: { a: { type: 'number' } },
      }
      write(join(home, 'own', 'a.v1.json'), own)
      const typed = await schema('types', join(home, 'own'))
      expect(typed.code).toBe(0)
      expect(typed.out.join()).toMatch(/a\?: (AV1A|number)/)
      write(join(home, 'elsewhere', 'a.v1.json'), { properties: { a: { $ref: elsewhere } } })
      expect(await schema('types', join(home, 'elsewhere'))).toMatchObject({ code: 2 })
      const nested = { $defs: { b: { $id: elsewhere, type: 'string' } }, properties: { a: { $ref: elsewhere } } }
      write(join(home, 'nested', 'a.v1.json'), nested)
      expect((await schema('types', join(home, 'nested'))).said).toContain('version 1 of a has no type')
      expect(asked).toBe(0)
    } finally {
      server.stop(true)
    }
  },
  TIMEOUT_MS,
)

test(
  'a schema is inferred from lines, and passes its own check',
  async () => {
    const lines = [1, 2, 3].map((total) => JSON.stringify({ type: 'order.placed', data: { total } }))
    const file = write(
      join(home, 'events.ndjson'),
      `${lines.join('\n')}\n${JSON.stringify({ type: 'other', data: {} })}\n`,
    )
    const { code, out } = await schema('infer', file, '--type', 'order.placed')
    expect(code).toBe(0)
    expect(JSON.parse(out.join('\n'))).toMatchObject({
      required: ['total'],
      properties: { total: { type: 'integer' } },
    })
    const draft = write(join(home, 'draft.json'), out.join('\n'))
    expect(await schema('check', draft, draft, '--mode', 'FULL')).toMatchObject({ code: 0 })
    expect(await schema('infer', file, '--type', 'none')).toMatchObject({ code: 1 })
    expect((await schema('infer', write(join(home, 'broken.ndjson'), '{}\n{'))).said).toContain('line 2 is no JSON')
  },
  TIMEOUT_MS,
)
