import { expect, test } from 'bun:test'
import { existsSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

/** What may import what, so that each room can be read, and changed, knowing only those below it. */

/** A room, and those that its product code may import, itself apart. Every room has to be here. */
const BELOW: Readonly<Record<string, readonly string[]>> = {
  'shared/service': [],
  'shared/events': ['shared/service'],
  'shared/tracing': ['shared/service'],
  'shared/http': ['shared/service', 'shared/events', 'shared/tracing'],
  'shared/kafka': ['shared/service', 'shared/events'],
  'shared/schemas': ['shared/service', 'shared/events', 'shared/kafka'],
  'shared/backup': ['shared/service', 'shared/events', 'shared/kafka'],
  'shared/dev': ['shared/service', 'shared/events', 'shared/kafka'],
  'shared/testing': ['shared/service', 'shared/events', 'shared/kafka', 'shared/schemas', 'shared/dev'],
  producer: ['shared/service', 'shared/events', 'shared/tracing', 'shared/http', 'shared/kafka', 'shared/schemas'],
  consumer: ['shared/service', 'shared/events', 'shared/tracing', 'shared/http', 'shared/kafka', 'shared/schemas'],
  bench: [
    'shared/service',
    'shared/events',
    'shared/http',
    'shared/kafka',
    'shared/schemas',
    'shared/dev',
    'shared/testing',
    'producer',
    'consumer',
  ],
  helm: [
    'shared/service',
    'shared/events',
    'shared/http',
    'shared/kafka',
    'shared/schemas',
    'shared/dev',
    'shared/testing',
    'producer',
    'consumer',
    // The clients and the judge of the fault runs.
    'bench',
  ],
}

/** What tests, and what only tests use, may import besides: all of `shared/`. */
const FOR_TESTS = Object.keys(BELOW).filter((room) => room.startsWith('shared/'))

const ROOT = join(import.meta.dir, '..', '..')
const IMPORT = /(?:(?:import|export)\s+(?:type\s+)?(?:[^'"`;]*?\sfrom\s+)?|import\(\s*)['"](\.[^'"]+)['"]/g

/** Imports of each file that is not generated and no test's fixture, both as paths in the checkout. */
async function importGraph(): Promise<Map<string, string[]>> {
  const graph = new Map<string, string[]>()
  for await (const file of new Bun.Glob('{producer,consumer,shared,bench,helm}/**/*.ts').scan(ROOT)) {
    if (file.includes('node_modules/') || file.startsWith('helm/checks/clients/')) continue
    const text = await Bun.file(join(ROOT, file)).text()
    const imported = [...text.matchAll(IMPORT)].map(([, path = '']) => normalize(join(dirname(file), path)))
    // A path in a test's text may be of a file that there is only in its example.
    graph.set(
      file,
      imported.filter((path) => existsSync(join(ROOT, path))),
    )
  }
  return graph
}

const roomOf = (file: string): string => {
  const [top = '', second = ''] = file.split('/')
  return top === 'shared' ? `${top}/${second}` : top
}

const isForTests = (file: string): boolean => file.endsWith('.test.ts') || file.split('/').includes('testing')

/** Imports that go upwards or sideways, as `FILE imports FILE`. */
function forbidden(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const found: string[] = []
  for (const [file, imported] of graph)
    for (const path of imported) {
      const [room, other] = [roomOf(file), roomOf(path)]
      if (room === other || other === 'package.json') {
        if (!isForTests(file) && isForTests(path)) found.push(`${file} imports ${path}, which is for tests`)
        continue
      }
      const allowed = [...(BELOW[room] ?? []), ...(isForTests(file) ? FOR_TESTS : [])]
      if (!allowed.includes(other)) found.push(`${file} imports ${path}`)
    }
  return found
}

/** Files that import each other, directly or by way of others, each circle once. */
function circles(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const found: string[][] = []
  const state = new Map<string, 'open' | 'closed'>()
  const walk = (file: string, path: string[]): void => {
    if (state.get(file) === 'closed') return
    if (state.get(file) === 'open') {
      found.push(path.slice(path.indexOf(file)))
      return
    }
    state.set(file, 'open')
    for (const next of graph.get(file) ?? []) walk(next, [...path, file])
    state.set(file, 'closed')
  }
  for (const file of graph.keys()) walk(file, [])
  return found
}

test('no room imports from one above or beside it', async () => {
  const graph = await importGraph()
  expect([...new Set([...graph.keys()].map(roomOf))].filter((room) => BELOW[room] === undefined)).toEqual([])
  expect(forbidden(graph)).toEqual([])
})

test('no files import each other in a circle', async () => {
  expect(circles(await importGraph())).toEqual([])
})

test('an import upwards, one of what is for tests, and a circle are found', () => {
  expect(forbidden(new Map([['shared/events/a.ts', ['producer/b.ts']]]))).toEqual([
    'shared/events/a.ts imports producer/b.ts',
  ])
  expect(forbidden(new Map([['consumer/a.ts', ['consumer/testing/b.ts']]]))).toHaveLength(1)
  expect(
    circles(
      new Map([
        ['a', ['b']],
        ['b', ['c']],
        ['c', ['a']],
      ]),
    ),
  ).toEqual([['a', 'b', 'c']])
})
