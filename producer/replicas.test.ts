import { expect, test } from 'bun:test'
import { until } from '../shared/testing/until.ts'
import { watchReplicas } from './replicas.ts'

/** Answers of DNS, one after the other; the last one stays. */
function watched(initial: number, ...answers: (readonly string[] | Error)[]) {
  const logged: unknown[] = []
  let asked = 0
  const replicas = watchReplicas({
    initial,
    name: 'producers',
    intervalMs: 0,
    log: { info: (...line: unknown[]) => void logged.push(line), warn: (...line: unknown[]) => void logged.push(line) },
    async addressesOf(name) {
      expect(name).toBe('producers')
      const answer = answers[Math.min(asked++, answers.length - 1)]
      if (answer instanceof Error) throw answer
      return answer ?? []
    },
  })
  const all = () => until(() => asked > answers.length + 1, { timeoutMs: 1_000, what: 'all answers' })
  return { replicas, logged, all }
}

test('without a name there are as many as was said', () => {
  const log = { info: () => undefined, warn: () => undefined }
  const replicas = watchReplicas({ initial: 3, name: undefined, log })
  expect([replicas.count(), replicas.state()]).toEqual([3, { ok: true }])
  replicas.stop()
})

test.each([
  ['one', ['10.0.0.1'], 1],
  ['three', ['10.0.0.1', '10.0.0.2', '10.0.0.3'], 3],
  ['one that is named twice', ['10.0.0.1', '10.0.0.1'], 1],
  ['two with addresses of both families', ['10.0.0.1', '10.0.0.2', 'fd00::1', 'fd00::2'], 2],
  ['three, of which one has no IPv4 address yet', ['10.0.0.1', '10.0.0.2', 'fd00::1', 'fd00::2', 'fd00::3'], 3],
])('addresses of %s', async (_, addresses, count) => {
  const { replicas, logged, all } = watched(5, addresses)
  await all()
  expect(replicas.count()).toBe(count)
  replicas.stop()
  expect(logged).toHaveLength(1)
})

test('what DNS said last stays while it says nothing, which is told once', async () => {
  const { replicas, logged, all } = watched(1, ['a', 'b'], new Error('SERVFAIL'), new Error('SERVFAIL'), [])
  await all()
  expect([replicas.count(), replicas.addresses()]).toEqual([2, ['a', 'b']])
  expect(replicas.state().detail).toContain('it has no addresses')
  replicas.stop()
  expect(logged).toHaveLength(3)
  const back = watched(1, new Error('SERVFAIL'), ['a', 'b', 'c'])
  expect(back.replicas.count()).toBe(1)
  await back.all()
  expect(back.replicas.state()).toEqual({ ok: true })
  expect(back.replicas.count()).toBe(3)
  back.replicas.stop()
  expect(back.logged).toHaveLength(3)
})

test('a real name is resolved', async () => {
  const log = { info: () => undefined, warn: () => undefined }
  const replicas = watchReplicas({ initial: 7, name: 'localhost', log })
  await until(() => replicas.count() === 1, { timeoutMs: 5_000, what: 'localhost to be one host' })
  replicas.stop()
})
