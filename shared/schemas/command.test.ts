import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { schema } from './command.ts'

let home: string
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'kafkatrace-schema-'))
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

async function typed(
  line: string,
  env: Record<string, string> = {},
): Promise<{ code: number; out: string; said: string }> {
  const [out, said]: [string[], string[]] = [[], []]
  const args = line === '' ? [] : line.split(' ')
  const code = await schema(args, { out: (text) => out.push(text), say: (text) => said.push(text), env })
  return { code, out: out.join('\n'), said: said.join('\n') }
}

const write = async (name: string, document: unknown): Promise<string> => {
  const path = join(home, name)
  await Bun.write(path, JSON.stringify(document))
  return path
}

test.each(['', 'check', 'diff', 'infer', 'register', 'types'])('%s --help explains it', async (name) => {
  const { code, out, said } = await typed(`${name} --help`.trim())
  expect(out).toContain(`bun run schema ${name}`.trim())
  expect({ code, said }).toEqual({ code: 0, said: '' })
})

test.each([
  ['', 'COMMAND is missing'],
  ['toString', 'there is no command toString'],
  ['check', 'two files, OLD and NEW, are needed, or --dir'],
  ['check a', 'two files'],
  ['check a b c', 'two files'],
  ['check a b --against HEAD', 'go with --dir'],
  ['check --dir a b', '--dir takes no files'],
  ['check --dir a --against b --registry http://c', 'give one of them'],
  ['check a b --mode backward', '--mode backward: not one of NONE, BACKWARD'],
  ['check a b --nod', "Unknown option '--nod': see"],
  ['check --dir --against HEAD', "Option '--dir' argument is ambiguous: see"],
  ['diff a', 'two files'],
  ['register', 'one folder or file is needed'],
  ['register a', 'SCHEMA_REGISTRY_URL is not set'],
  ['register a --registry ftp://a', '--registry: not an address'],
  ['types a b', 'one folder is needed'],
  ['types a --check', '--check goes with --out'],
  ['infer', 'one of --stream and FILE is needed'],
  ['infer a --stream b/c', 'one of --stream and FILE'],
  ['infer --stream b/c', '--type is missing'],
  ['infer --stream b --type t', 'not TENANT/STREAM'],
  ['infer a --most 0', '--most 0: not a number from 1'],
])('schema %s is refused', async (line, told) => {
  const { code, out, said } = await typed(line)
  expect(said).toContain(told)
  expect(said).toMatch(/^[^\n]*: see bun run schema (?:\w+ )?--help$/)
  expect({ code, out }).toEqual({ code: 64, out: '' })
})

test('credentials in the address of a registry are refused, and not repeated', async () => {
  const { code, said } = await typed('register a --registry http://someone:hunter2@a')
  expect(code).toBe(64)
  expect(said).not.toMatch(/hunter2|someone/)
})

test('variables that do not go together are refused', async () => {
  const env = { SCHEMA_REGISTRY_USERNAME: 'u' }
  expect(await typed('register a --registry http://a', env)).toMatchObject({ code: 78 })
})

test('a folder without schemas, or with other files, is refused', async () => {
  expect(await typed(`types ${home}/none`)).toMatchObject({ code: 2, said: `${home}/none: there is no such folder` })
  await write('empty/README.md', '')
  expect((await typed(`types ${home}/empty`)).said).toContain('has no schema')
  await write('other/order.json', true)
  const file = `${home}/other/order.json`
  expect((await typed(`check --dir ${file}`)).said).toBe(`${file}: is a file: use schema check OLD NEW`)
  expect((await typed(`types ${file}`)).said).toBe(`${file}: is a file: name the folder that it is in`)
  const { code, said } = await typed(`check --dir ${home}/other`)
  expect(code).toBe(2)
  expect(said).toContain('order.json: is not named SUBJECT.vVERSION.json')
})

test('links to schemas, and to folders of them, are refused', async () => {
  const elsewhere = await write('elsewhere/a.v1.json', true)
  await write('linked/a.v1.json', true)
  symlinkSync('a.v1.json', join(home, 'linked/b.v1.json'))
  symlinkSync(join(home, 'elsewhere'), join(home, 'linked/c'))
  symlinkSync(elsewhere, join(home, 'linked/README.md'))
  const refused = ['b.v1.json', 'c'].map(
    (name) => `${home}/linked/${name}: is a link: put what it leads to in its place`,
  )
  const at = ['--registry', 'http://127.0.0.1:9'].join(' ')
  for (const line of [`types ${home}/linked`, `check --dir ${home}/linked`, `register ${home}/linked ${at}`])
    expect(await typed(line)).toEqual({ code: 2, out: '', said: refused.join('\n') })
  expect(await typed(`register ${home}/linked/b.v1.json ${at}`)).toMatchObject({ code: 2, said: refused[0] })
  // A folder that is itself a link, and not one of Git.
  expect(await typed(`types ${home}/linked/c`)).toMatchObject({ code: 0 })
})

test('only a file that the command has written is written again', async () => {
  await write('typed/a.v1.json', { type: 'string' })
  const own = join(home, 'own.ts')
  await Bun.write(own, 'const ours = 1\n')
  const line = `types ${home}/typed --out`
  expect(await typed(`${line} ${own}`)).toMatchObject({
    code: 1,
    said: `${own} is there, and was not written by this command: name another file, or remove it`,
  })
  expect(await Bun.file(own).text()).toBe('const ours = 1\n')
  expect((await typed(`${line} ${home}`)).said).toBe(`${home} is no regular file: name a file to write`)
  for (const type of ['string', 'number']) {
    await write('typed/a.v1.json', { type })
    expect(await typed(`${line} ${home}/schemas.ts`)).toMatchObject({ code: 0 })
    expect(await Bun.file(`${home}/schemas.ts`).text()).toContain(`export type AV1 = ${type}`)
  }
})

test('types of numbers that JavaScript does not have are refused', async () => {
  await Bun.write(join(home, 'rounded/a.v1.json'), '{"enum":[1.0,12345678901234567890],"maximum":18446744073709551615}')
  const { code, said } = await typed(`types ${home}/rounded`)
  expect(said).toBe(
    `${home}/rounded/a.v1.json: /enum: 12345678901234567890 is 12345678901234567000 in JavaScript; write it as a string`,
  )
  expect(code).toBe(1)
})

test('misspelt keywords are warned of, and fail nothing', async () => {
  const older = await write('spelt.json', { type: 'string' })
  const newer = await write('misspelt.json', { type: 'string', formt: 'email' })
  const warning = '/formt: is no keyword: did you mean "format"?'
  expect(await typed(`check ${older} ${newer}`)).toEqual({
    code: 0,
    out: `${newer} is compatible with ${older} (BACKWARD)\n  warning: ${warning}`,
    said: '',
  })
  expect(JSON.parse((await typed(`check ${older} ${newer} --json`)).out).warnings).toEqual([warning])
})

test('of many differences, some are printed', async () => {
  const all = (type: string) => ({
    type: 'object',
    properties: Object.fromEntries(Array.from({ length: 150 }, (_, index) => [`m${index}`, { type }])),
  })
  const files = [await write('many1.json', all('number')), await write('many2.json', all('string'))].join(' ')
  const { out } = await typed(`diff ${files}`)
  expect(out.split('\n').slice(99, 102)).toEqual([
    expect.stringContaining('/m99/'),
    'and 50 more, which --json has',
    '',
  ])
  expect(JSON.parse((await typed(`diff ${files} --json`)).out).changes).toHaveLength(150)
})

test('differences are said by pointer, and what they mean for each direction', async () => {
  const older = await write('older.json', { type: 'object', required: ['a'], properties: { a: { type: 'string' } } })
  const newer = await write('newer.json', {
    type: 'object',
    title: 'Order',
    required: ['a', 'b'],
    properties: { a: { type: 'string' }, b: { type: 'integer' } },
  })
  const { code, out } = await typed(`diff ${older} ${newer}`)
  const lines = out.split('\n')
  expect(lines.slice(0, 2)).toEqual([
    '/properties/b  is new: required, integer',
    '/title         is new; data is not affected',
  ])
  expect(lines).toContain('BACKWARD: not compatible')
  expect(lines).toContain('FORWARD: compatible')
  expect(code).toBe(0)
  expect(JSON.parse((await typed(`diff ${older} ${newer} --json`)).out)).toMatchObject({
    changes: [{ pointer: '/properties/b' }, { pointer: '/title' }],
    backward: { compatible: false },
    forward: { compatible: true },
  })
  expect((await typed(`diff ${older} ${older}`)).out).toBe(
    'no difference\n\nBACKWARD: compatible\n\nFORWARD: compatible',
  )
})
