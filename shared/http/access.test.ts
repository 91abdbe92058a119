import { afterEach, describe, expect, test } from 'bun:test'
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { ConfigError } from '../service/config.ts'
import { keyring } from '../testing/keyring.ts'
import { until } from '../testing/until.ts'
import { LiveAccess } from './access.ts'
import { authoriseByKey } from './authorise.ts'
import { PROBLEMS, type Problem } from './problem.ts'
import { loadTenants, type Tenant, type TenantsFile } from './tenants.ts'

const { made, entry } = keyring()
const [one, two, late] = [entry('one'), entry('two'), entry('late')]
const WANTED = { role: 'send', tenant: undefined, stream: undefined } as const

const ends: (() => void)[] = []
afterEach(() => {
  for (const end of ends.splice(0)) end()
})

const fileOf = (tenants: TenantsFile['tenants']): string => JSON.stringify({ tenants })
const acme = (...keys: TenantsFile['tenants'][string]['keys']) => ({ streams: ['events'], keys })
const FIRST = fileOf({ acme: acme(one) })

function live(text: string, prepare: (tenants: readonly Tenant[]) => void = () => undefined, nowMs = Date.now) {
  const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-access-'))
  const path = join(folder, 'tenants.json')
  const write = (next: string): void => {
    writeFileSync(`${path}.new`, next)
    renameSync(`${path}.new`, path)
  }
  write(text)
  const lines: { level: string; fields: object; text: string }[] = []
  const line =
    (level: string) =>
    (fields: object | string, words = String(fields)): void =>
      void lines.push({ level, fields: typeof fields === 'string' ? {} : fields, text: words })
  const access = new LiveAccess({
    file: path,
    tenants: loadTenants(path),
    authorise: (tenants) => authoriseByKey(tenants, nowMs),
    log: { info: line('info'), warn: line('warn') },
    pollMs: 1,
  })
  const changes: string[][] = []
  access.onChange((tenants) => changes.push(tenants.map(({ name }) => name)))
  ends.push(() => {
    access.stop()
    rmSync(folder, { recursive: true })
  })
  const started = access.start(prepare)
  const ask = (id: string) => {
    const request = new Request('http://x/', { headers: { authorization: `Bearer ${made.get(id)}` } })
    const answer = access.authorise(request, WANTED)
    if (answer instanceof Promise) throw new Error('a key is looked up at once')
    return answer
  }
  const status = (id: string): number => {
    const answer = ask(id)
    return answer.ok ? 202 : PROBLEMS[answer.problem.kind].status
  }
  const detail = (): string => access.state().detail ?? ''
  return { access, path, write, lines, changes, started, ask, status, detail }
}

describe('access by a file that changes', () => {
  test('has keys, tenants and streams come and go, and says which', async () => {
    const { write, status, changes, lines, started } = live(FIRST)
    await started
    expect([status('one'), status('two')]).toEqual([202, 401])
    write(fileOf({ acme: { ...acme(two), streams: ['events', 'orders'] }, shop: acme() }))
    await until(() => status('two') === 202)
    expect(status('one')).toBe(401)
    expect(changes).toEqual([['acme', 'shop']])
    expect(lines).toEqual([
      {
        level: 'info',
        text: 'tenants were read again',
        fields: { tenants: 2, newStreams: 'acme/orders; shop/events', newKeys: 'two', removedKeys: 'one' },
      },
    ])
    expect(JSON.stringify(lines)).not.toContain(String(made.get('two')))
  })

  test('goes on with what it had while the file is broken, says so once, and again when that changes', async () => {
    const { write, status, detail, lines, changes, path } = live(FIRST)
    write('{"tenants":{"acme":')
    await until(() => detail().includes('is no JSON'))
    expect(status('one')).toBe(202)
    write(JSON.stringify({ tenants: { acme: { ...acme(one), more: 1 }, shop: {} } }))
    await until(() => detail().includes('/tenants/acme/more is not known'))
    expect(detail()).toStartWith(`the tenants file is not used, what it said before is: TENANTS_FILE=${path}: `)
    rmSync(path)
    await until(() => detail().includes('cannot be read'))
    write(FIRST)
    await until(() => detail() === '')
    expect(changes).toEqual([])
    expect(lines.map(({ level, text }) => [level, text])).toEqual([
      ['warn', 'the tenants file has changed and is not used: what it said before is'],
      ['warn', 'the tenants file has changed and is not used: what it said before is'],
      ['warn', 'the tenants file has changed and is not used: what it said before is'],
      ['info', 'the tenants file is used again'],
    ])
    // Every fault.
    expect(JSON.stringify(lines[1])).toMatch(/more is not known.*shop\/streams is missing.*shop\/keys is missing/)
  })

  test('a file that has lost all tenants is most likely the wrong one, and revokes nothing', async () => {
    const { write, status, detail } = live(FIRST)
    write('{"tenants":{}}')
    await until(() => detail().includes('it has no tenants any more'))
    expect(status('one')).toBe(202)
  })

  test('a service may begin without any tenant', async () => {
    const { write, status } = live('{"tenants":{}}')
    write(FIRST)
    await until(() => status('one') === 202)
  })

  test('what a service refuses is a fault of the file as well, and is asked again', async () => {
    const { write, detail, status } = live(FIRST, (tenants) => {
      if (tenants.some(({ name }) => name === 'bad')) throw new ConfigError(['bad is not wanted', 'nor is its stream'])
    })
    write(fileOf({ acme: acme(two), bad: acme() }))
    await until(() => detail().endsWith('bad is not wanted; nor is its stream'))
    expect([status('one'), status('two')]).toEqual([202, 401])
    write(fileOf({ acme: acme(two) }))
    await until(() => status('two') === 202)
    expect(detail()).toBe('')
  })

  test('a change between the first read and the start is not missed', async () => {
    const { access, write, started, status } = live(FIRST)
    await started
    access.stop()
    const other = live(FIRST)
    other.write(fileOf({ acme: acme(two) }))
    await other.started
    expect(other.status('two')).toBe(202)
    // Nothing is read once it is stopped.
    write(fileOf({ acme: acme(two) }))
    await until(() => other.changes.length === 1)
    expect(status('two')).toBe(401)
  })

  test('a request that lasts ends with its key, its role, its stream or its time', async () => {
    const clock = { nowMs: Date.parse('2026-01-01T00:00:00Z') }
    const keys = [one, { ...two, roles: ['send' as const] }, { ...late, expiresAt: '2026-01-02T00:00:00+01:00' }]
    const { access, write, ask } = live(fileOf({ acme: acme(...keys) }), undefined, () => clock.nowMs)
    const ended = new Map<string, Problem>()
    const follow = (id: string): (() => void) => {
      const allowed = ask(id)
      if (!allowed.ok) throw new Error(allowed.problem.detail)
      return access.whileAllowed(allowed, (problem) => ended.set(id, problem))
    }
    follow('one')
    follow('late')
    follow('two')()
    write(fileOf({ acme: acme(keys[1] as typeof one, keys[2] as typeof one) }))
    await until(() => ended.size === 1)
    expect(ended.get('one')).toMatchObject({
      kind: 'unauthenticated',
      detail: 'The key one is not accepted any more: it was removed.',
    })
    // One that has ended is not looked at.
    follow('two')
    write(fileOf({ acme: acme({ ...two, roles: ['read'] }, keys[2] as typeof one) }))
    await until(() => ended.has('two'))
    expect(ended.get('two')?.kind).toBe('forbidden')
    clock.nowMs = Date.parse('2026-01-01T23:00:00Z')
    await until(() => ended.has('late'))
    expect(ended.get('late')?.detail).toBe('The key late has expired: it was valid until 2026-01-01T23:00:00.000Z.')
  })

  test('a key whose secret is another one is not the same key', async () => {
    const { access, ask, write } = live(FIRST)
    const allowed = ask('one')
    if (!allowed.ok) throw new Error('refused')
    let ended: Problem | undefined
    access.whileAllowed(allowed, (problem) => {
      ended = problem
    })
    const next = keyring().entry('one')
    write(fileOf({ acme: acme(next) }))
    await until(() => ended !== undefined)
    expect(ended?.kind).toBe('unauthenticated')
  })

  test('any sequence of files ends in what the last valid one says', async () => {
    const valid = fc
      .record({
        tenants: fc.uniqueArray(fc.constantFrom('acme', 'shop', 'till', 'x'), { minLength: 1 }),
        keys: fc.subarray([one, two, late]),
      })
      .map(({ tenants: [first = '', ...others], keys }) => ({
        names: [first, ...others],
        ids: keys.map(({ id }) => id),
        text: fileOf({ ...Object.fromEntries(others.map((name) => [name, acme()])), [first]: acme(...keys) }),
      }))
    const broken = fc
      .nat(9)
      .chain((number) =>
        fc.constantFrom(
          { fault: 'is no JSON', text: FIRST.slice(0, 10 + number) },
          { fault: `/x${number} is not known`, text: `{"tenants":{},"x${number}":1}` },
          { fault: 'no tenants any more', text: `{"tenants":{}${' '.repeat(number)}}` },
          { fault: 'a member twice', text: `{"tenants":{"a":1,"a":${number}}}` },
          { fault: 'given twice', text: fileOf({ acme: acme(one), shop: acme(one), [`t${number}`]: acme() }) },
        ),
      )
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(valid, broken), { minLength: 1, maxLength: 6 }), async (files) => {
        const { write, access, detail, status } = live(FIRST)
        let now = { names: ['acme'], ids: ['one'] }
        for (const file of files) {
          write(file.text)
          if ('fault' in file) await until(() => detail().includes(file.fault))
          else {
            now = file
            const names = new Set(file.names)
            await until(
              () =>
                detail() === '' &&
                access.tenants().length === names.size &&
                access.tenants().every(({ name }) => names.has(name)) &&
                ['one', 'two', 'late'].every((id) => (status(id) === 202) === file.ids.includes(id)),
            )
          }
        }
        expect(
          access
            .tenants()
            .map(({ name }) => name)
            .sort(),
        ).toEqual([...now.names].sort())
        expect(['one', 'two', 'late'].filter((id) => status(id) === 202).sort()).toEqual([...now.ids].sort())
        access.stop()
      }),
      { numRuns: 15 },
    )
  })
})
