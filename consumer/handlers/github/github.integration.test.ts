import { describe, expect, test } from 'bun:test'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import fc from 'fast-check'
import type { Event } from '../../../shared/events/event.ts'
import { examplesOf } from '../../testing/github-examples.ts'
import { ACTIVITY_TYPE, Activity } from '../activity.ts'
import { type Handling, handlerIndex } from '../handler.ts'
import { handlers } from '../index.ts'
import { TYPE_PREFIX } from './webhook.ts'

const isActivity = TypeCompiler.Compile(Activity)
const find = handlerIndex(handlers)

const event: Event = { id: '1', source: '/test', type: 'any', extensions: {}, data: null }
const handling: Handling = {
  event,
  context: { tenant: 't', stream: 's', processedAtMs: 0, fingerprint: '' },
  attempt: 1,
  signal: new AbortController().signal,
}

/** The faults of a payload by the handler's schema; without faults, the handler's result. */
function handle(name: string, payload: unknown): { faults: string[]; activity?: unknown } {
  const registered = find(`${TYPE_PREFIX}${name}`)
  if (registered === undefined) throw new Error(`no handler for ${name}`)
  const faults = [...registered.check.faults(payload, 0)].map(({ path, message }) => `${path}: ${message}`)
  if (faults.length > 0) return { faults }
  const handled = registered.handle(payload, handling)
  if (handled instanceof Promise) throw new Error('these handlers answer at once')
  expect(handled.type).toBe(ACTIVITY_TYPE)
  return { faults, activity: handled.data }
}

/** The first example's payload, with some properties changed at a depth of one or two: `{'issue.title': 'x'}`. */
async function variant(name: string, changes: Record<string, unknown>): Promise<unknown> {
  const payload = structuredClone((await examplesOf(name))[0]?.payload) as Record<string, Record<string, unknown>>
  for (const [path, value] of Object.entries(changes)) {
    const [first = '', second] = path.split('.')
    if (second === undefined) payload[first] = value as Record<string, unknown>
    else (payload[first] as Record<string, unknown>)[second] = value
  }
  return payload
}

const names = handlers.map(({ type }) => type.slice(TYPE_PREFIX.length))

describe('every real payload is taken and becomes a valid activity', () => {
  for (const name of names) {
    test(name, async () => {
      const examples = await examplesOf(name)
      expect(examples.length).toBeGreaterThanOrEqual(10)
      for (const { from, payload } of examples) {
        const { faults, activity } = handle(name, payload)
        const wrong =
          faults.length > 0 ? faults : [...isActivity.Errors(activity)].map((e) => `${e.path}: ${e.message}`)
        expect({ from, wrong }).toEqual({ from, wrong: [] })
      }
    })
  }
})

describe('whatever a payload is turned into, it is refused or becomes a valid activity', () => {
  const nasty = [undefined, null, '', 0, -1, 1.5, 1e300, true, 'x', '9999-99-99T99:99:99Z', '2020-01-01 10:00', [], {}]

  for (const name of names) {
    const paths = pathsOf(handlers.find(({ type }) => type === `${TYPE_PREFIX}${name}`)?.schema)

    test(`${name}: each property that is used, replaced by each odd value`, async () => {
      let taken = 0
      for (const { payload } of (await examplesOf(name)).slice(0, 4))
        for (const path of paths) for (const value of nasty) if (holds(name, payload, [{ path, value }])) taken++
      expect(taken).toBeGreaterThan(100)
    })

    test(`${name}: several at once`, async () => {
      const examples = await examplesOf(name)
      const anyJson = fc.jsonValue().map((value): unknown => JSON.parse(JSON.stringify(value)))
      const change = fc.record({ path: fc.constantFrom(...paths), value: fc.oneof(fc.constantFrom(...nasty), anyJson) })
      fc.assert(
        fc.property(fc.nat(examples.length - 1), fc.array(change, { minLength: 2, maxLength: 5 }), (index, changes) => {
          holds(name, examples[index]?.payload, changes)
        }),
        { numRuns: 60 },
      )
    })
  }
})

/** Whether a changed payload is accepted; if so, the result must be an activity. */
function holds(name: string, original: unknown, changes: readonly { path: string[]; value: unknown }[]): boolean {
  const payload = structuredClone(original)
  for (const { path, value } of changes) replaceAt(payload, path, value)
  const registered = find(`${TYPE_PREFIX}${name}`)
  if (registered?.check.passes(payload) !== true) return false
  const { activity } = handle(name, payload)
  const faults = isActivity.Check(activity) ? [] : [...isActivity.Errors(activity)]
  expect({ changes, faults }).toEqual({ changes: [...changes], faults: [] })
  // A record in `.processed` is JSON: serialising must lose nothing.
  expect(JSON.parse(JSON.stringify(activity))).toEqual(activity)
  return true
}

/** The paths of all properties that a schema names, including those inside nullable objects. */
function pathsOf(schema: unknown, parent: string[] = []): string[][] {
  const { properties = {}, anyOf = [] } = schema as { properties?: Record<string, unknown>; anyOf?: unknown[] }
  const own = Object.entries(properties).flatMap(([name, property]) => {
    const path = [...parent, name]
    return [path, ...pathsOf(property, path)]
  })
  return [...own, ...anyOf.flatMap((one) => pathsOf(one, parent))]
}

function replaceAt(root: unknown, path: readonly string[], value: unknown): void {
  const parent = path
    .slice(0, -1)
    .reduce<unknown>((node, name) => (node as Record<string, unknown> | null)?.[name], root)
  if (parent !== null && typeof parent === 'object')
    (parent as Record<string, unknown>)[path[path.length - 1] as string] = value
}

describe('push', () => {
  const zeros = '0'.repeat(40)

  test('a branch that is pushed to names its commit and counts files once, however many commits touch them', async () => {
    const commits = [
      { added: ['a'], removed: [], modified: ['b'] },
      { added: [], removed: ['c'], modified: ['a', 'b'] },
    ]
    const changes = { ref: 'refs/heads/feat/x', created: false, deleted: false, after: 'cafe', commits }
    expect(handle('push', await variant('push', changes)).activity).toMatchObject({
      verb: 'pushed',
      object: { kind: 'branch', ref: 'refs/heads/feat/x', name: 'feat/x', sha: 'cafe' },
      at: '2019-05-15T15:20:57.000Z',
      details: { commits: 2, changedFiles: 3, forced: false },
    })
  })

  test('a forced push is told apart', async () => {
    const payload = await variant('push', { created: false, deleted: false, forced: true })
    expect(handle('push', payload).activity).toMatchObject({ verb: 'force_pushed', details: { forced: true } })
  })

  test('a deleted tag has no commit', async () => {
    const deletion = {
      ref: 'refs/tags/v1',
      created: false,
      deleted: true,
      after: zeros,
      head_commit: null,
      commits: [],
    }
    const { activity } = handle('push', await variant('push', deletion))
    expect(activity).toMatchObject({ verb: 'deleted', object: { kind: 'tag', name: 'v1' } })
    expect(activity).not.toHaveProperty('object.sha')
  })

  test('without a sender the pusher is the actor, and without either nobody is', async () => {
    const deployKey = await variant('push', { sender: null, pusher: { name: 'deploy-key' } })
    expect(handle('push', deployKey).activity).toMatchObject({ actor: { login: 'deploy-key' } })
    expect(handle('push', await variant('push', { sender: null, pusher: null })).activity).toMatchObject({
      actor: null,
    })
  })
})

test('a pull request that is closed by merging is merged', async () => {
  const merged = await variant('pull_request', { action: 'closed', 'pull_request.merged': true })
  expect(handle('pull_request', merged).activity).toMatchObject({ verb: 'merged', details: { state: 'merged' } })
  const closed = await variant('pull_request', { action: 'closed', 'pull_request.merged': false })
  expect(handle('pull_request', closed).activity).toMatchObject({ verb: 'closed' })
})

test('an actor whose account is gone is null', async () => {
  for (const sender of [null, undefined]) {
    const { activity } = handle('issues', await variant('issues', { sender }))
    expect(activity).toMatchObject({ actor: null, object: { kind: 'issue' } })
  }
})

test('a comment on a pull request is told from one on an issue, and its text is not repeated', async () => {
  const changes = { 'issue.pull_request': {}, 'comment.body': 'four' }
  const { activity } = handle('issue_comment', await variant('issue_comment', changes))
  expect(activity).toMatchObject({ details: { onPullRequest: true, characters: 4 } })
  expect(JSON.stringify(activity)).not.toContain('four')
})

test('a workflow run has a conclusion and a duration only once it has ended', async () => {
  const times = {
    'workflow_run.run_started_at': '2021-01-01T00:00:00Z',
    'workflow_run.updated_at': '2021-01-01T00:01:30Z',
  }
  const ended = { ...times, action: 'completed', 'workflow_run.conclusion': 'failure' }
  const { activity } = handle('workflow_run', await variant('workflow_run', ended))
  expect(activity).toMatchObject({ details: { conclusion: 'failure', durationMs: 90_000 } })
  const begun = { ...times, action: 'in_progress', 'workflow_run.conclusion': null, 'workflow_run.head_branch': null }
  const details = handle('workflow_run', await variant('workflow_run', begun)).activity as { details: object }
  expect(Object.keys(details.details)).not.toContain('conclusion')
  expect(Object.keys(details.details)).not.toContain('durationMs')
  expect(Object.keys(details.details)).not.toContain('branch')
})

test('a release that is a draft was made when it was created', async () => {
  const changes = { 'release.published_at': null, 'release.created_at': '2020-02-02T02:02:02Z', 'release.name': null }
  expect(handle('release', await variant('release', changes)).activity).toMatchObject({ at: '2020-02-02T02:02:02Z' })
})

test('a payload that lacks what is needed is refused by the name of what it lacks', async () => {
  expect(handle('issues', await variant('issues', { 'issue.number': undefined })).faults.join()).toContain(
    '/issue/number',
  )
  expect(handle('push', { zen: 'Keep it logically awesome.' }).faults.length).toBeGreaterThan(3)
})
