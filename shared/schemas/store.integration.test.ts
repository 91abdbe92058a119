import { afterEach, expect, test } from 'bun:test'
import { mkdir, mkdtemp, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { settled } from '../testing/settled.ts'
import { until } from '../testing/until.ts'
import type { Subject, Version } from './catalog.ts'
import { type RegisteredSchema, RegistryError } from './registry.ts'
import {
  FolderStore,
  RegistryStore,
  type SchemaConfig,
  type SchemaStore,
  StreamsStore,
  subjectNames,
  typeNames,
} from './store.ts'

const CONFIG: SchemaConfig = {
  SCHEMA_SUBJECT: '{tenant}.{stream}-{type}',
  SCHEMA_REGISTRY_REFRESH_MS: 30_000,
}

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})

async function temporary(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-schemas-'))
  ends.push(() => rm(folder, { recursive: true }))
  return folder
}

function logger() {
  const lines: string[] = []
  return Object.assign(pino({}, { write: (line: string) => void lines.push(line) }), { lines })
}

const typed = (type: string): string => JSON.stringify({ type })
const latest = (store: SchemaStore, subject: string): unknown => {
  const found = store.find(subject)
  return typeof found === 'object' ? `${found.latest.version} ${JSON.stringify(found.latest.schema.document)}` : found
}

async function folderStore(files: Readonly<Record<string, string>>) {
  const folder = await temporary()
  const write = (name: string, text: string) => writeFile(join(folder, name), text)
  for (const [name, text] of Object.entries(files)) await write(name, text)
  const log = logger()
  const store = new FolderStore(folder, (subject) => subject.startsWith('a.s-'), log, 5)
  ends.push(() => store.stop())
  return { folder, write, log, store }
}

test('a folder is read, and read again when it changes', async () => {
  const { folder, write, store, log } = await folderStore({ 'a.s-t.v1.json': typed('string'), 'README.md': 'ours' })
  await mkdir(join(folder, 'team'))
  await write('team/a.s-u%2Fv.v2.json', typed('null'))
  await store.start()
  expect([latest(store, 'a.s-t'), latest(store, 'a.s-u/v'), store.find('a.s-x')]).toEqual([
    '1 {"type":"string"}',
    '2 {"type":"null"}',
    undefined,
  ])
  const before = store.find('a.s-u/v')
  await write('a.s-t.v10.json', typed('number'))
  await until(() => latest(store, 'a.s-t') === '10 {"type":"number"}')
  expect(store.versions()).toBe(3)
  expect([...store.subjects()]).toEqual(['a.s-t', 'a.s-u/v'])
  expect(log.lines.at(-1)).toContain('read again')
  // What has not changed is not compiled again.
  expect(store.find('a.s-u/v')?.latest).toBe(before?.latest as Version)
  await unlink(join(folder, 'a.s-t.v10.json'))
  await until(() => latest(store, 'a.s-t') === '1 {"type":"string"}')
})

test('a change with a fault is not used, and said until it is mended', async () => {
  const { folder, write, store, log } = await folderStore({ 'a.s-t.v1.json': typed('string') })
  await store.start()
  await write('a.s-t.v2.json', '{"type":')
  await write('b.json', '{}')
  await until(
    () => JSON.stringify(store.state()).includes('no JSON') && JSON.stringify(store.state()).includes('b.json'),
  )
  expect(latest(store, 'a.s-t')).toBe('1 {"type":"string"}')
  expect(store.state()).toMatchObject({ ok: true, detail: expect.stringContaining('a.s-t.v2.json') })
  expect(log.lines.at(-1)).toContain('not used')
  await write('a.s-t.v2.json', typed('number'))
  await unlink(join(folder, 'b.json'))
  await until(() => latest(store, 'a.s-t') === '2 {"type":"number"}')
  expect(store.state()).toEqual({ ok: true })
})

test('what is no regular file is a fault, and nothing waits for it', async () => {
  const { folder, store } = await folderStore({ 'a.s-t.v1.json': typed('string') })
  await store.start()
  const pipe = join(folder, 'a.s-t.v2.json')
  const zeros = join(folder, 'a.s-t.v3.json')
  expect(Bun.spawnSync(['mkfifo', pipe]).exitCode).toBe(0)
  await symlink('/dev/zero', zeros)
  const detail = (): string => JSON.stringify(store.state())
  await until(() => [pipe, zeros].every((path) => detail().includes(`${path}: is no regular file`)))
  expect(latest(store, 'a.s-t')).toBe('1 {"type":"string"}')
  await unlink(pipe)
  await unlink(zeros)
  await writeFile(pipe, typed('number'))
  await until(() => latest(store, 'a.s-t') === '2 {"type":"number"}')
  expect(store.state()).toEqual({ ok: true })
})

test('at the start every fault is named', async () => {
  const { store } = await folderStore({
    'a.s-t.v1.json': '{"type":"strng"}',
    'order.json': '{}',
    'a.s-u.v1.json': '{"$ref":"http://example.com/x"}',
    'a.s-u.v01.json': '{}',
    'a.s-v.v1.yaml': 'type: string',
  })
  const fault = await store.start().catch((error: Error) => error)
  const text = String((fault as { faults?: string[] }).faults?.join('\n'))
  expect(text).toContain('order.json')
  expect(text).toContain('a.s-u.v01.json')
  expect(text).toContain('a.s-v.v1.yaml: is not named .json')
  expect(text).toMatch(/a\.s-t\.v1\.json: .*type/)
  expect(text).toMatch(/a\.s-u\.v1\.json: \/\$ref: http:\/\/example\.com\/x/)
})

test('a folder that is not there is a fault', async () => {
  const store = new FolderStore(join(await temporary(), 'missing'), () => true, logger())
  expect(await settled(store.start())).toThrow(/SCHEMAS_DIR=\/.*missing: there is no such folder/)
})

test('a folder without a schema is a fault, and one that loses all of them is not believed', async () => {
  const empty = await folderStore({ 'README.md': '' })
  expect(await settled(empty.store.start())).toThrow(/it has no schema/)
  const { folder, store } = await folderStore({ 'a.s-t.v1.json': typed('string') })
  await store.start()
  await unlink(join(folder, 'a.s-t.v1.json'))
  await until(() => JSON.stringify(store.state()).includes('it has no schema'))
  expect(latest(store, 'a.s-t')).toBe('1 {"type":"string"}')
})

test('schemas of no stream, and published versions that have changed, are told', async () => {
  const { write, store, log } = await folderStore({
    'a.s-t.v1.json': typed('string'),
    'order.v1.json': typed('string'),
  })
  await store.start()
  expect(log.lines.join()).toContain('"subjects":["order"]')
  await write('a.s-t.v1.json', typed('number'))
  await until(() => latest(store, 'a.s-t') === '1 {"type":"number"}')
  await until(() => log.lines.join().includes('"versions":["a.s-t/1"]'))
})

test('the files of a ConfigMap change all at once', async () => {
  const folder = await temporary()
  const publish = async (name: string, files: Readonly<Record<string, string>>) => {
    await mkdir(join(folder, name))
    for (const [file, text] of Object.entries(files)) await writeFile(join(folder, name, file), text)
    // As the kubelet does it: a link that is renamed over the one before.
    await symlink(name, join(folder, '..data_tmp'))
    await rename(join(folder, '..data_tmp'), join(folder, '..data'))
  }
  await publish('..1', { 'a.s-t.v1.json': typed('string') })
  await symlink('..data/a.s-t.v1.json', join(folder, 'a.s-t.v1.json'))
  const store = new FolderStore(folder, () => true, logger(), 5)
  ends.push(() => store.stop())
  await store.start()
  expect(store.versions()).toBe(1)
  await publish('..2', { 'a.s-t.v1.json': typed('number') })
  await until(() => latest(store, 'a.s-t') === '1 {"type":"number"}')
  expect(store.versions()).toBe(1)
})

/** A registry that the test changes. The real one is in store.integration.test.ts. */
class Registered {
  readonly schemas = new Map<string, (string | { fault: string })[]>()
  isAway = false
  asked = 0
  readonly read: string[] = []
  /** By subject, or version as `SUBJECT/VERSION`. */
  readonly refused = new Map<string, RegistryError>()

  async subjects(): Promise<string[]> {
    this.asked++
    if (this.isAway) throw new RegistryError('http://registry cannot be reached', true)
    return [...this.schemas.keys()]
  }

  /** Each subject waits for it. */
  hold: (subject: string) => Promise<void> | undefined = () => undefined
  underWay = 0
  mostUnderWay = 0

  async versions(subject: string): Promise<number[]> {
    this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay)
    await this.hold(subject)
    this.underWay--
    this.#refuse(subject)
    return (this.schemas.get(subject) ?? []).map((_, index) => index + 1)
  }

  async schemaOf(subject: string, version: number | 'latest'): Promise<RegisteredSchema> {
    this.read.push(`${subject}/${version}`)
    this.#refuse(`${subject}/${version}`)
    const text = this.schemas.get(subject)?.[Number(version) - 1] ?? ''
    return typeof text === 'string' ? { ok: true, version: Number(version), text } : { ok: false, ...text }
  }

  #refuse(name: string): void {
    const refusal = this.refused.get(name)
    if (refusal !== undefined) throw refusal
  }
}

const refusal = (name: string, status: number): RegistryError =>
  new RegistryError(`http://registry refused ${name} (${status})`, false, status)

function registryStore(registry: Registered) {
  const log = logger()
  const clock = { ms: 0 }
  const isOurs = (subject: string) => subject.startsWith('a.s-')
  const store = new RegistryStore(registry, isOurs, log, 5, () => clock.ms)
  ends.push(() => store.stop())
  return { log, store, clock }
}

test('schemas come from a registry, and new ones soon after they are registered', async () => {
  const registry = new Registered()
  registry.schemas.set('a.s-t', [typed('string')]).set('other', [typed('null')])
  const { store } = registryStore(registry)
  expect(store.state()).toEqual({ ok: false, reason: 'the schema registry: it has not answered yet' })
  expect(store.find('a.s-t')).toBe('unknown')
  await store.start()
  await until(() => store.state().ok)
  expect([latest(store, 'a.s-t'), store.find('a.s-u'), store.find('other')]).toEqual([
    '1 {"type":"string"}',
    undefined,
    undefined,
  ])
  registry.schemas.get('a.s-t')?.push(typed('number'))
  registry.schemas.set('a.s-u', [typed('null')])
  await until(() => latest(store, 'a.s-t') === '2 {"type":"number"}' && latest(store, 'a.s-u') === '1 {"type":"null"}')
})

test('of streams that come later, what is not known yet may be there; of those that are gone, nothing is kept', async () => {
  const registry = new Registered()
  registry.schemas.set('a.s-t', [typed('string')]).set('b.s-t', [typed('null')])
  const { store } = registryStore(registry)
  await store.start()
  await until(() => store.state().ok)
  store.cover((subject) => subject.startsWith('b.s-'))
  expect([store.find('b.s-t'), store.find('b.s-u'), store.find('a.s-u')]).toEqual(['unknown', 'unknown', undefined])
  await until(() => latest(store, 'b.s-t') === '1 {"type":"null"}')
  expect([store.find('b.s-u'), store.find('a.s-t'), [...store.subjects()]]).toEqual([undefined, undefined, ['b.s-t']])
  expect(store.state()).toEqual({ ok: true })
})

test('a registry is asked for the schemas of a new stream at once', async () => {
  const registry = new Registered()
  registry.schemas.set('b.s-t', [typed('null')])
  const store = new RegistryStore(registry, () => false, logger(), 3_600_000)
  ends.push(() => store.stop())
  await store.start()
  await until(() => store.state().ok)
  store.cover(() => true)
  await until(() => latest(store, 'b.s-t') === '1 {"type":"null"}')
})

const tenant = (name: string, ...streams: string[]) => ({
  name,
  schemas: new Map(streams.map((stream) => [stream, {}])),
})

test('where schemas are is looked for once a stream has some', async () => {
  const folder = await temporary()
  const log = logger()
  const store = new StreamsStore({ ...CONFIG, SCHEMAS_DIR: folder }, log)
  ends.push(() => store.stop())
  await store.start([tenant('a')])
  expect([store.state(), store.versions(), store.find('a.s-t')]).toEqual([{ ok: true }, 0, 'unknown'])
  expect(log.lines.join()).toContain('no event is checked')
  expect(await settled(store.prepare([tenant('a', 's')]))).toThrow('it has no schema')
  await writeFile(join(folder, 'a.s-t.v1.json'), typed('string'))
  const next = [tenant('a', 's'), tenant('b', 's', 's-t')]
  await store.prepare(next)
  store.cover(next)
  expect(latest(store, 'a.s-t')).toBe('1 {"type":"string"}')
  expect(log.lines.at(-1)).toContain('another stream has the name of this one with something after a hyphen')
})

test('streams with schemas, and no place where those are, are refused', async () => {
  const store = new StreamsStore(CONFIG, logger())
  await store.start([tenant('a')])
  expect(await settled(store.prepare([tenant('a', 's')]))).toThrow('neither SCHEMAS_DIR nor SCHEMA_REGISTRY_URL is set')
})

test('while the registry is away, what is known stays, and what is not may be there', async () => {
  const registry = new Registered()
  registry.schemas.set('a.s-t', [typed('string')])
  const { store, log } = registryStore(registry)
  await store.start()
  await until(() => store.state().ok)
  registry.isAway = true
  await until(() => store.find('a.s-u') === 'unknown')
  expect(latest(store, 'a.s-t')).toBe('1 {"type":"string"}')
  expect(store.state()).toEqual({
    ok: true,
    detail: 'the schema registry: http://registry cannot be reached; the schemas from before are used',
  })
  const asked = registry.asked
  await until(() => registry.asked > asked + 2)
  // Said once.
  expect(log.lines.filter((line) => line.includes('cannot be reached'))).toHaveLength(1)
  registry.isAway = false
  await until(() => store.find('a.s-u') === undefined)
  expect(store.state()).toEqual({ ok: true })
})

test('what a registry has forgotten stays in use, however it comes back, and is told', async () => {
  const registry = new Registered()
  registry.schemas.set('a.s-t', [typed('string'), typed('number')]).set('a.s-u', [typed('null')])
  const { store, log } = registryStore(registry)
  await store.start()
  await until(() => store.state().ok)
  const both = ['2 {"type":"number"}', '1 {"type":"null"}']
  const used = () => ['a.s-t', 'a.s-u'].map((subject) => latest(store, subject))
  registry.schemas.clear()
  await until(() => JSON.stringify(store.state()).includes('not in the registry'))
  expect(store.state()).toEqual({
    ok: true,
    detail: '3 schemas are not in the registry any more and are still used until a restart: a.s-t/1; a.s-t/2; a.s-u/1',
  })
  expect(used()).toEqual(both)
  const asked = registry.asked
  await until(() => registry.asked > asked + 2)
  expect(log.lines.filter((line) => line.includes('not in the registry'))).toHaveLength(1)
  registry.schemas.set('a.s-u', [typed('null')])
  await until(() => JSON.stringify(store.state()).includes('2 schemas are not in the registry'))
  expect(used()).toEqual(both)
  registry.schemas.set('a.s-t', [typed('string')])
  await until(() => JSON.stringify(store.state()).includes('1 schema is not in the registry'))
  expect(used()).toEqual(both)
  registry.schemas.get('a.s-t')?.push(typed('number'))
  await until(() => !JSON.stringify(store.state()).includes('not in the registry'))
  expect([used(), store.state()]).toEqual([both, { ok: true }])
})

test('of a subject, the latest versions are used, those that are forgotten among them', async () => {
  const registry = new Registered()
  const texts = Array.from({ length: 22 }, (_, index) => JSON.stringify({ title: `${index + 1}` }))
  registry.schemas.set('a.s-t', texts.slice(0, 21))
  const { store } = registryStore(registry)
  await store.start()
  await until(() => store.versions() === 20)
  registry.schemas.set('a.s-t', texts)
  await until(() => latest(store, 'a.s-t') === '22 {"title":"22"}')
  expect([store.versions(), store.state()]).toEqual([20, { ok: true }])
  registry.schemas.set('a.s-t', texts.slice(0, 1))
  await until(() => JSON.stringify(store.state()).includes('20 schemas are not in the registry'))
  expect([store.versions(), latest(store, 'a.s-t')]).toEqual([20, '22 {"title":"22"}'])
})

test('a text that is replaced under the same number is noticed, and those before it are read again', async () => {
  const registry = new Registered()
  registry.schemas.set('a.s-t', [typed('string'), typed('number')])
  const { store, log } = registryStore(registry)
  await store.start()
  await until(() => store.state().ok)
  const before = store.find('a.s-t') as Subject
  registry.read.length = 0
  await until(() => registry.read.length > 2)
  expect(new Set(registry.read)).toEqual(new Set(['a.s-t/2']))
  expect((store.find('a.s-t') as Subject).latest).toBe(before.latest)
  registry.schemas.set('a.s-t', [typed('boolean'), typed('null')])
  await until(() => latest(store, 'a.s-t') === '2 {"type":"null"}')
  expect((store.find('a.s-t') as Subject).versions.get(1)?.schema.document).toEqual({ type: 'boolean' })
  await until(() => log.lines.join().includes('"versions":["a.s-t/1","a.s-t/2"]'))
})

test('a registry without a schema of these streams does not hinder the start, and is told', async () => {
  const registry = new Registered()
  registry.schemas.set('other', [typed('null')])
  const { store, log } = registryStore(registry)
  await store.start()
  await until(() => store.state().ok)
  expect(store.state()).toEqual({ ok: true, detail: 'the schema registry has no schema of these streams' })
  expect(store.find('a.s-t')).toBeUndefined()
  await until(() => log.lines.join().includes('no schema of these streams'))
  registry.schemas.set('a.s-t', [typed('string')])
  await until(() => latest(store, 'a.s-t') === '1 {"type":"string"}')
  expect(store.state()).toEqual({ ok: true })
})

test('a registry that is away at the start is asked until it answers', async () => {
  const registry = new Registered()
  registry.isAway = true
  const { store } = registryStore(registry)
  await store.start()
  await until(() => registry.asked > 0)
  expect(store.state()).toMatchObject({ ok: false, reason: expect.stringContaining('cannot be reached') })
  registry.schemas.set('a.s-t', [typed('string')])
  registry.isAway = false
  await until(() => store.state().ok)
  expect(latest(store, 'a.s-t')).toBe('1 {"type":"string"}')
})

test('a schema that cannot be used concerns its own type only', async () => {
  const registry = new Registered()
  registry.schemas
    .set('a.s-t', [typed('string')])
    .set('a.s-avro', [{ fault: 'version 1 of a.s-avro is of type AVRO, and not JSON' }])
    .set('a.s-bad', [typed('strng')])
    .set('a.s-worse', [typed('string'), '{"$ref":"http://example.com/x"}'])
    .set('a.s-worst', [
      typed('string'),
      typed('null'),
      { fault: 'version 3 of a.s-worst is of type AVRO, and not JSON' },
    ])
    .set('a.s-mended', [{ fault: 'version 1 of a.s-mended is of type AVRO, and not JSON' }, typed('string')])
  const { store } = registryStore(registry)
  await store.start()
  await until(() => store.state().ok)
  expect(['a.s-avro', 'a.s-bad', 'a.s-none'].map((subject) => store.find(subject))).toEqual([
    'unknown',
    'unknown',
    undefined,
  ])
  expect([latest(store, 'a.s-t'), latest(store, 'a.s-worse')]).toEqual(['1 {"type":"string"}', '1 {"type":"string"}'])
  const unusable = (subject: string) => (store.find(subject) as Subject).unusable
  expect(['a.s-t', 'a.s-worse', 'a.s-worst', 'a.s-mended'].map(unusable)).toEqual([undefined, 2, 3, undefined])
  const { detail } = store.state() as { detail: string }
  for (const subject of ['a.s-avro', 'a.s-bad', 'a.s-worse', 'a.s-worst', 'a.s-mended'])
    expect(detail).toContain(subject)
})

test('a version that could never be used is not missed when it is gone', async () => {
  const registry = new Registered()
  registry.schemas
    .set('a.s-t', [typed('string'), typed('strng')])
    .set('a.s-u', [{ fault: 'a.s-u/1 is AVRO' }, { fault: 'a.s-u/2 is AVRO' }])
  const { store } = registryStore(registry)
  await store.start()
  await until(() => store.state().ok)
  expect([(store.find('a.s-t') as Subject).unusable, store.find('a.s-u')]).toEqual([2, 'unknown'])
  // Of several, the latest is named.
  expect(store.state()).toMatchObject({ detail: expect.stringContaining('cannot be used: a.s-u/2 is AVRO; a.s-t') })
  registry.schemas.set('a.s-t', [typed('string')]).delete('a.s-u')
  await until(() => store.find('a.s-u') === undefined)
  expect([(store.find('a.s-t') as Subject).unusable, store.state()]).toEqual([undefined, { ok: true }])
})

test('what the registry refuses for one subject concerns that one only', async () => {
  const registry = new Registered()
  registry.schemas
    .set('a.s-t', [typed('string')])
    .set('a.s-u', [typed('string'), typed('null')])
    .set('a.s-v', [typed('string')])
  registry.refused.set('a.s-t', refusal('a.s-t', 403)).set('a.s-u/2', refusal('a.s-u/2', 422))
  const { store } = registryStore(registry)
  await store.start()
  await until(() => store.state().ok)
  expect([store.find('a.s-t'), latest(store, 'a.s-u'), latest(store, 'a.s-v'), store.find('a.s-w')]).toEqual([
    'unknown',
    '1 {"type":"string"}',
    '1 {"type":"string"}',
    undefined,
  ])
  expect((store.find('a.s-u') as Subject).unusable).toBe(2)
  expect(store.state()).toEqual({
    ok: true,
    detail: 'schemas that cannot be used: http://registry refused a.s-t (403); http://registry refused a.s-u/2 (422)',
  })
  registry.refused.clear()
  await until(() => latest(store, 'a.s-t') === '1 {"type":"string"}' && latest(store, 'a.s-u') === '2 {"type":"null"}')
  // What is known stays.
  registry.refused.set('a.s-t', refusal('a.s-t', 404)).set('a.s-u/2', refusal('a.s-u/2', 404))
  await until(() => JSON.stringify(store.state()).includes('refused a.s-t'))
  expect(store.state()).toMatchObject({ detail: expect.not.stringContaining('not in the registry') })
  expect([latest(store, 'a.s-t'), latest(store, 'a.s-u')]).toEqual(['1 {"type":"string"}', '2 {"type":"null"}'])
  expect((store.find('a.s-u') as Subject).unusable).toBeUndefined()
})

test('what the registry refuses for all subjects is no answer', async () => {
  const registry = new Registered()
  registry.schemas.set('a.s-t', [typed('string')]).set('a.s-u', [typed('string')])
  registry.refused.set('a.s-t', refusal('a.s-t', 403)).set('a.s-u', refusal('a.s-u', 403))
  const { store } = registryStore(registry)
  await store.start()
  await until(() => registry.asked > 1)
  expect(store.state()).toEqual({ ok: false, reason: 'the schema registry: http://registry refused a.s-t (403)' })
  registry.refused.delete('a.s-u')
  await until(() => store.state().ok)
  expect([store.find('a.s-t'), latest(store, 'a.s-u')]).toEqual(['unknown', '1 {"type":"string"}'])
})

test('subjects are read some at a time, and stay in their order', async () => {
  const registry = new Registered()
  const names = Array.from({ length: 30 }, (_, index) => `a.s-${10 + index}`)
  for (const name of names.toReversed()) registry.schemas.set(name, [typed('string')])
  const first = Promise.withResolvers<void>()
  registry.hold = (subject) => (subject === 'a.s-10' ? first.promise : Promise.resolve())
  const { store } = registryStore(registry)
  await store.start()
  await until(() => registry.read.length === 29)
  expect(store.state().ok).toBe(false)
  first.resolve()
  await until(() => store.state().ok)
  expect([...store.subjects()]).toEqual(names)
  expect(registry.mostUnderWay).toBe(8)
})

test('after the first fault, no further subject is read', async () => {
  const registry = new Registered()
  for (let index = 0; index < 30; index++) registry.schemas.set(`a.s-${index}`, [typed('string')])
  const { store } = registryStore(registry)
  const asked: string[] = []
  registry.hold = async (subject) => {
    asked.push(subject)
    if (subject !== 'a.s-0') return
    registry.isAway = true
    throw new RegistryError('http://registry cannot be reached', true)
  }
  await store.start()
  await until(() => registry.asked > 1)
  expect(asked).toHaveLength(8)
  expect(store.state()).toMatchObject({ ok: false, reason: expect.stringContaining('cannot be reached') })
})

test('at the start it is told how far the registry is read, and what was wrong before', async () => {
  const registry = new Registered()
  for (let index = 0; index < 2_000; index++) registry.schemas.set(`a.s-${1_000 + index}`, [typed('string')])
  const { store } = registryStore(registry)
  let isBroken = true
  registry.hold = async (subject) => {
    if (subject < 'a.s-2204') return
    if (isBroken) throw new RegistryError('http://registry cannot be reached', true)
    await new Promise(() => {})
  }
  await store.start()
  await until(() => JSON.stringify(store.state()).includes('cannot be reached'))
  isBroken = false
  await until(() => JSON.stringify(store.state()).includes('1,204'))
  expect(store.state()).toEqual({
    ok: false,
    reason: 'the schema registry: http://registry cannot be reached; 1,204 of 2,000 subjects are read',
  })
  const { store: other } = registryStore(registry)
  await other.start()
  await until(() => JSON.stringify(other.state()).includes('1,204'))
  expect(other.state()).toEqual({
    ok: false,
    reason: 'the schema registry: 1,204 of 2,000 subjects are read',
  })
})

test('while a registry takes minutes, what is known stays, and what is not may be there', async () => {
  const registry = new Registered()
  registry.schemas.set('a.s-t', [typed('string')])
  const { store, clock } = registryStore(registry)
  await store.start()
  await until(() => store.state().ok)
  const held = Promise.withResolvers<void>()
  let isHeld = false
  registry.hold = () => {
    isHeld = true
    return held.promise
  }
  await until(() => isHeld)
  clock.ms = 15_015
  expect([store.state(), store.find('a.s-u')]).toEqual([{ ok: true }, undefined])
  clock.ms = 15_016
  expect(store.state()).toEqual({
    ok: true,
    detail:
      'the schema registry: it was read completely 15 s ago; 0 of 1 subjects are read; the schemas from before are used',
  })
  expect([store.find('a.s-u'), latest(store, 'a.s-t')]).toEqual(['unknown', '1 {"type":"string"}'])
  held.resolve()
  await until(() => store.find('a.s-u') === undefined)
  expect(store.state()).toEqual({ ok: true })
})

test('subjects are made by a template', () => {
  expect(subjectNames('{tenant}.{stream}-{type}', 'acme', 'orders')('order.placed')).toBe('acme.orders-order.placed')
  expect(subjectNames('{type}-value', 'acme', 'orders')('{tenant}$&')).toBe('{tenant}$&-value')
})

test('a subject says its type, where the template has it once', () => {
  const of = (template: string) => typeNames(template, 'acme', 'orders')
  const usual = of('{tenant}.{stream}-{type}')
  expect(['acme.orders-a-b', 'acme.orders-', 'acme.order-a', 'x.acme.orders-a'].map(usual)).toEqual([
    'a-b',
    undefined,
    undefined,
    undefined,
  ])
  expect(['a-value', '-value', 'value', 'a-value-value'].map(of('{type}-value'))).toEqual([
    'a',
    undefined,
    undefined,
    'a-value',
  ])
  // The beginning and the end may not overlap.
  expect(of('aa{type}aa')('aaa')).toBeUndefined()
  expect(of('{type}.{type}')('a.a')).toBeUndefined()
})
