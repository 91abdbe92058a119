import { afterAll, beforeAll, expect, test } from 'bun:test'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { tenantsFileIn, tenantsOf } from '../shared/http/tenants.ts'
import { settled } from '../shared/testing/settled.ts'
import { openFile, replaceFile } from './tenant-key/file.ts'
import { tenantKey } from './tenant-key.ts'

// On a terminal, too, what is compared has no colours.
const noColor = process.env['NO_COLOR']
process.env['NO_COLOR'] = '1'

let home: string
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'kafkatrace-tenant-key-'))
})
afterAll(() => {
  rmSync(home, { recursive: true, force: true })
  if (noColor === undefined) delete process.env['NO_COLOR']
  else process.env['NO_COLOR'] = noColor
})

const NOW_MS = Date.parse('2026-11-30T12:00:00.400Z')

async function typed(args: readonly string[], env: Record<string, string> = {}, giveFault?: Error) {
  const [out, said]: [string[], string[]] = [[], []]
  const code = await tenantKey(args, {
    out: (line) => out.push(line),
    say: (line) => said.push(line),
    env,
    nowMs: () => NOW_MS,
    give: (line) => {
      if (giveFault !== undefined) throw giveFault
      out.push(line)
    },
  })
  return { code, out, said: said.join('\n') }
}

const sha256Of = (text: string): string => new Bun.CryptoHasher('sha256').update(text).digest('hex')

/** Of a key of this id; always the same. */
const shaOf = (id: string): string => sha256Of(`kt.${id}.any`)

const FILE = `{
  "tenants": {
    "shop": {
      "streams": ["events", "orders"],
      "keys": [
        {"id": "shop-1", "sha256": "${shaOf('shop-1')}"},
        {"id": "shop-till", "sha256": "${shaOf('shop-till')}", "name": "till  in the hall", "streams": ["orders"], "expiresAt": "2026-12-03T00:00:00Z"}
      ],
      "redact": {"orders": ["/card/number"]}
    },
    "off": {"enabled": false, "streams": ["events"], "keys": [
      {"id": "late", "sha256": "${shaOf('late')}", "notBefore": "2027-01-01T00:00:00Z"}, {"id": "gone", "sha256": "${shaOf('gone')}", "expiresAt": "2026-01-01T00:00:00Z"},
      {"id": "idle", "sha256": "${shaOf('idle')}"}]}
  },
  "operators": [{"id": "on-call", "sha256": "${shaOf('on-call')}", "roles": ["read", "operate"]}]
}
`

let files = 0
function written(text = FILE): string {
  const path = join(home, `tenants-${files++}.json`)
  writeFileSync(path, text)
  return path
}

const read = (path: string) => tenantsFileIn(readFileSync(path), path)

/** The lines of a text that another one does not have. */
const without = (text: string, other: string): string[] => {
  const lines = new Set(other.split('\n'))
  return text.split('\n').filter((line) => !lines.has(line))
}

test.each(['', 'make', 'list', 'roll', 'revoke'])('%s --help explains it', async (name) => {
  const { code, out, said } = await typed(name === '' ? ['--help'] : [name, '--help'])
  expect(out.join('\n')).toContain(`bun run tenant-key ${name}`.trim())
  expect({ code, said }).toEqual({ code: 0, said: '' })
})

test.each([
  [[], 'COMMAND is missing'],
  [['shop-1'], 'there is no command shop-1'],
  [['make', 'shop'], 'TENANT and ID are needed'],
  [['make', '--operator', 'shop', 'a'], 'one ID is needed'],
  [['make', 'shop', 'A'], 'ID A: not a name'],
  [['make', 'shop', 'a', '--roles', 'read,admin'], '--roles read,admin: not some of send,read,operate'],
  [['make', 'shop', 'a', '--roles', 'read,read'], 'each once'],
  [['make', 'shop', 'a', '--roles', ''], '--roles'],
  [['make', '--operator', 'a', '--roles', 'send'], 'not some of read,operate'],
  [['make', '--operator', 'a', '--streams', 'x'], '--streams does not go with --operator'],
  [['make', 'shop', 'a', '--expires', 'soon'], '--expires soon: neither a time'],
  [['make', 'shop', 'a', '--expires', '2026-11-30T12:00:00Z'], 'is not in the future'],
  [['make', 'shop', 'a', '--expires', '0s'], 'is not in the future'],
  [['list', 'shop'], 'list takes no arguments'],
  [['list', '--file', '-'], '--file is missing, and TENANTS_FILE is not set'],
  [['roll'], 'ID is missing'],
  [['roll', 'a', '--overlap', 'soon'], '--overlap soon: not a duration'],
  [['revoke', 'a', 'b'], 'one ID at a time'],
  [['revoke', 'a'], '--file is missing, and TENANTS_FILE is not set'],
])('%p is refused', async (args, told) => {
  const { code, out, said } = await typed(args)
  expect(said).toContain(told)
  expect(said).toMatch(/^[^\n]*: see bun run tenant-key (?:\w+ )?--help$/)
  expect({ code, out }).toEqual({ code: 64, out: [] })
})

test.each([
  [{}, ['--file', '-']],
  [{}, []],
  [{ TENANTS_FILE: '/nowhere' }, ['--file', '-']],
])('without a file, the line for it is printed: %p %p', async (env: Record<string, string>, more) => {
  const { code, out, said } = await typed(['make', 'shop', 'shop-1', '--expires', '90d', ...more], env)
  const [key = ''] = out
  expect({ code, keys: out.length }).toEqual({ code: 0, keys: 1 })
  const line = said.split('\n').at(-1) ?? ''
  expect(JSON.parse(line)).toEqual({ id: 'shop-1', sha256: sha256Of(key), expiresAt: '2027-02-28T12:00:00Z' })
  expect(said).not.toContain(key)
})

test('a new key is valid with what was said of it, and all else in the file stays as it is', async () => {
  const path = written()
  chmodSync(path, 0o640)
  const { code, out, said } = await typed(
    [
      'make',
      'shop',
      'web',
      '--roles',
      'send,read',
      '--streams',
      'orders',
      '--expires',
      '2027-01-01T00:00:00+01:00',
      '--name',
      'Web, “new”',
    ],
    { TENANTS_FILE: path },
  )
  expect(code).toBe(0)
  expect(said).toContain(`web was added to ${path}`)
  const [key = ''] = out
  expect(tenantsOf(read(path)).find(key)).toMatchObject({
    keyId: 'web',
    name: 'Web, “new”',
    tenant: { name: 'shop' },
    streams: new Set(['orders']),
    roles: new Set(['send', 'read']),
    validUntilMs: Date.parse('2026-12-31T23:00:00Z'),
  })
  const text = readFileSync(path, 'utf8')
  expect(without(text, FILE)).toEqual([
    expect.stringMatching(/^ {8}\{"id": "shop-till".*\},$/),
    `        {"id": "web", "sha256": "${sha256Of(key)}", "name": "Web, “new”", "expiresAt": "2027-01-01T00:00:00+01:00", "streams": ["orders"], "roles": ["send", "read"]}`,
  ])
  expect(statSync(path).mode & 0o777).toBe(0o640)
  expect(readdirSync(home).filter((name) => name.endsWith('.new'))).toEqual([])
})

test('an operator’s key is added, also where there was none', async () => {
  const path = written()
  const { out } = await typed(['make', '--operator', 'chief', '--roles', 'operate', '--file', path])
  expect(tenantsOf(read(path)).find(out[0] ?? '')).toMatchObject({
    keyId: 'chief',
    tenant: undefined,
    roles: new Set(['operate']),
  })
  const none = written('{"tenants":{"a":{"streams":["events"],"keys":[]}}}')
  const made = await typed(['make', '--operator', 'first', '--file', none])
  expect(readFileSync(none, 'utf8')).toBe(
    `{"tenants":{"a":{"streams":["events"],"keys":[]}},"operators":[{"id":"first","sha256":"${sha256Of(made.out[0] ?? '')}"}]}`,
  )
})

test.each([
  [['make', 'nobody', 'a'], 1, 'there is no tenant nobody; there are shop, off'],
  [['make', 'toString', 'a'], 1, 'there is no tenant toString'],
  [['make', 'shop', 'late'], 1, 'there is a key late already'],
  [['make', 'shop', 'a', '--streams', 'none'], 1, 'the key a names the stream none, which shop does not have'],
  [['make', 'shop', 'a', '--name', ''], 1, 'a text of 1 to 100 characters'],
  [['roll', 'nobody'], 1, 'there is no key nobody in the file'],
  [['roll', 'late'], 1, 'never valid'],
  [['roll', 'gone'], 1, 'gone has expired at 2026-01-01T00:00:00Z'],
  [['revoke', 'gone', '--at', '30d'], 1, 'not made to last longer by revoking it'],
  [['revoke', 'shop-till', '--at', '30d'], 1, 'shop-till expires at 2026-12-03T00:00:00Z, before 2026-12-30T12:00:00Z'],
  [['revoke', 'nobody'], 1, 'there is no key nobody in the file'],
  [['list', '--tenant', 'nobody'], 1, 'there is no tenant nobody'],
])('%p is not possible, and nothing is changed', async (args, expected, told) => {
  const path = written()
  const { code, out, said } = await typed([...args, '--file', path])
  expect(said).toContain(told)
  expect({ code, out }).toEqual({ code: expected, out: [] })
  expect(readFileSync(path, 'utf8')).toBe(FILE)
})

test('a file with a fault, or none, is not changed', async () => {
  const path = written(FILE.replace('"streams": ["orders"], ', '"stream": ["orders"], '))
  expect(await typed(['revoke', 'shop-1', '--file', path])).toMatchObject({
    code: 78,
    said: expect.stringContaining('/stream'),
  })
  expect(await typed(['revoke', 'shop-1', '--file', join(home, 'none.json')])).toMatchObject({
    code: 1,
    said: expect.stringContaining('cannot be read'),
  })
})

test('a key that is rolled gets the next number and all that the old one has, which expires after the overlap', async () => {
  const path = written()
  const first = await typed(['roll', 'shop-1', '--file', path])
  expect(first.said).toContain(`shop-2 was added to ${path}, and shop-1 expires at 2026-12-07T12:00:00Z`)
  expect(tenantsOf(read(path)).find(first.out[0] ?? '')).toMatchObject({ keyId: 'shop-2' })
  const second = await typed(['roll', 'shop-till', '--overlap', '90d', '--expires', '30d', '--file', path])
  expect(second.code).toBe(0)
  expect(without(readFileSync(path, 'utf8'), FILE)).toEqual([
    `        {"id": "shop-1", "sha256": "${shaOf('shop-1')}", "expiresAt": "2026-12-07T12:00:00Z"},`,
    // It expires before the end of the overlap.
    `        {"id": "shop-till", "sha256": "${shaOf('shop-till')}", "name": "till  in the hall", "streams": ["orders"], "expiresAt": "2026-12-03T00:00:00Z"},`,
    `        {"id": "shop-2", "sha256": "${sha256Of(first.out[0] ?? '')}"},`,
    `        {"id": "shop-till-2", "sha256": "${sha256Of(second.out[0] ?? '')}", "name": "till  in the hall", "streams": ["orders"], "expiresAt": "2026-12-30T12:00:00Z"}`,
  ])
  expect(first.said).toContain('shop-2 never expires')
  expect(second.said).not.toContain('never expires')
  // The numbers that are taken are passed.
  const third = await typed(['roll', 'shop-1', '--file', path])
  expect(third.said).toContain('shop-3 was added')
  expect(third.said).toContain('There already: shop-2.')
  expect(third.said).toContain('shop-3 never expires')
  expect((await typed(['roll', 'on-call', '--file', path])).said).toContain('on-call-2 was added')
  const { operators } = read(path)
  expect(operators).toMatchObject([
    { id: 'on-call', expiresAt: '2026-12-07T12:00:00Z' },
    { id: 'on-call-2', roles: ['read', 'operate'] },
  ])
})

test('a key that is revoked is not in the file any more, or expires when it was said', async () => {
  const path = written()
  expect((await typed(['revoke', 'shop-till', '--file', path])).code).toBe(0)
  expect(without(FILE, readFileSync(path, 'utf8'))).toEqual([
    `        {"id": "shop-1", "sha256": "${shaOf('shop-1')}"},`,
    expect.stringContaining('"shop-till"'),
  ])
  expect((await typed(['revoke', 'shop-1', '--at', '2h', '--file', path])).said).toContain(
    'shop-1 expires at 2026-11-30T14:00:00Z',
  )
  expect(read(path).tenants['shop']?.keys).toEqual([
    { id: 'shop-1', sha256: shaOf('shop-1'), expiresAt: '2026-11-30T14:00:00Z' },
  ])
  await typed(['revoke', 'on-call', '--file', path])
  await typed(['revoke', 'shop-1', '--file', path])
  expect(readFileSync(path, 'utf8')).toContain('"operators": []')
})

test('a key that was revoked by mistake can be put back from what was said', async () => {
  const path = written()
  const { out, said } = await typed(['revoke', 'shop-till', '--file', path])
  expect(out).toEqual([])
  expect(said).toContain('among the "keys" of the tenant shop')
  expect(JSON.parse(said.split('\n').at(-1) ?? '')).toEqual({
    id: 'shop-till',
    sha256: shaOf('shop-till'),
    name: 'till  in the hall',
    streams: ['orders'],
    expiresAt: '2026-12-03T00:00:00Z',
  })
  expect((await typed(['revoke', 'on-call', '--file', path])).said).toContain('among "operators"')
})

test('the list says of each key whether it is valid', async () => {
  const path = written()
  const { out } = await typed(['list', '--file', path])
  expect(`\n${out.join('\n')}\n`).toBe(`
ID         TENANT      NAME               ROLES         STREAMS  NOT BEFORE            EXPIRES               STATE
shop-1     shop                           send          all                                                  valid
shop-till  shop        till  in the hall  send          orders                         2026-12-03T00:00:00Z  expires soon
late       off                            send          all      2027-01-01T00:00:00Z                        not valid yet
gone       off                            send          all                            2026-01-01T00:00:00Z  expired
idle       off                            send          all                                                  tenant disabled
on-call    (operator)                     read,operate  all                                                  valid
`)
  const asJson = await typed(['list', '--tenant', 'off', '--json', '--file', path])
  const listed = JSON.parse(asJson.out.join('')) as unknown[]
  expect(listed).toHaveLength(3)
  expect(listed[0]).toEqual({
    id: 'late',
    tenant: 'off',
    name: null,
    roles: ['send'],
    streams: null,
    notBefore: '2027-01-01T00:00:00Z',
    expiresAt: null,
    state: 'not valid yet',
  })
})

test.each([
  [['make', 'shop', 'web'], 'web was added to FILE all the same: revoke it'],
  [
    ['roll', 'shop-1'],
    'shop-2 was added to FILE all the same, and shop-1 expires at 2026-12-07T12:00:00Z: revoke shop-2, then roll shop-1 again',
  ],
])('a key that nobody got is a failure, which says what is in the file: %p', async (args, told) => {
  const path = written()
  const { code, said } = await typed([...args, '--file', path], {}, new Error('no space'))
  expect(code).toBe(1)
  expect(said).toContain('is lost: no space\n')
  expect(said.endsWith(told.replace('FILE', path))).toBe(true)
})

test('a change by somebody else in the meantime is kept, and said', async () => {
  const path = written()
  const opened = await openFile(path)
  const others = FILE.replace('"late"', '"later"')
  writeFileSync(path, others)
  expect(await settled(replaceFile(opened, opened.bytes, opened.file))).toThrow('changed by somebody else')
  expect(readFileSync(path, 'utf8')).toBe(others)
  expect(readdirSync(home).filter((name) => name.endsWith('.new'))).toEqual([])
})

test('another one of these commands that is at work is waited for by the person, who is told since when and what to do', async () => {
  const path = written()
  const beside = join(home, `.${path.slice(home.length + 1)}.new`)
  writeFileSync(beside, '')
  utimesSync(beside, new Date('2026-11-30T11:00:00Z'), new Date('2026-11-30T11:00:00Z'))
  const { code, out, said } = await typed(['revoke', 'late', '--file', path])
  expect({ code, out }).toEqual({ code: 1, out: [] })
  expect(said).toContain('another tenant-key is at work')
  expect(said).toContain(`since 2026-11-30T11:00:00Z`)
  expect(said).toContain(`rm '${beside}'`)
  expect(readFileSync(path, 'utf8')).toBe(FILE)
})

test('a file of a Kubernetes volume is not changed; another link leads to the file that is', async () => {
  const volume = join(home, 'volume')
  mkdirSync(join(volume, '..2026_11_30'), { recursive: true })
  writeFileSync(join(volume, '..2026_11_30', 'tenants.json'), FILE)
  symlinkSync('..2026_11_30', join(volume, '..data'))
  symlinkSync('..data/tenants.json', join(volume, 'tenants.json'))
  const mounted = await typed(['make', 'shop', 'web', '--file', join(volume, 'tenants.json')])
  expect({ code: mounted.code, out: mounted.out }).toEqual({ code: 1, out: [] })
  expect(mounted.said).toContain('kubectl create secret generic')
  expect(readFileSync(join(volume, 'tenants.json'), 'utf8')).toBe(FILE)
  const path = written()
  const link = join(home, 'link.json')
  symlinkSync(path, link)
  expect((await typed(['revoke', 'late', '--file', link])).code).toBe(0)
  expect(readFileSync(path, 'utf8')).not.toContain('"late"')
  expect(statSync(link, { throwIfNoEntry: true }).ino).toBe(statSync(path).ino)
})
