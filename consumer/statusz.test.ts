import { expect, test } from 'bun:test'
import { Value } from '@sinclair/typebox/value'
import type { PartitionState } from './partition-state.ts'
import { ConsumerStatusz, statuszOf } from './statusz.ts'

const partition = (
  topic: string,
  number: number,
  state: PartitionState,
  isPausedByOperator = false,
  backlog?: string,
) => ({
  topic,
  partition: number,
  name: `${topic}/${number}`,
  state,
  isPausedByOperator,
  backlog,
})

test('a consumer says how each of its input partitions is, and why it is not ready, without naming other streams there', () => {
  const partitions = [
    partition('kt.a.s', 0, { kind: 'reading' }),
    partition('kt.a.s', 1, { kind: 'reading' }, true),
    partition('kt.a.s', 2, { kind: 'paused', cause: 'unreadable', reason: 'denied' }, true),
    partition('kt.a.s', 3, { kind: 'restoring', fault: undefined }),
    partition('kt.a.s', 4, { kind: 'restoring', fault: 'no leader', lasting: true }),
    partition('kt.a.s', 5, { kind: 'draining' }),
    partition('kt.a.s', 6, { kind: 'revoked' }),
    partition('kt.a.s', 7, { kind: 'reading' }, false, '9 events wait in .retry'),
    partition('kt.a.s', 8, { kind: 'reading' }, true, '9 events wait in .retry'),
    partition('kt.a.s.retry', 0, { kind: 'reading' }),
  ]
  const checks = {
    kafka: () => ({ ok: true }) as const,
    commits: () => ({ ok: false, reason: 'no commit for 9 s' }) as const,
    partitions: () => ({ ok: false, reason: 'not read: kt.a.s/4' }) as const,
  }
  const status = statuszOf('kafkatrace-consumer-1', checks, { partitions: () => partitions }, new Map([['kt.a.s', 3]]))
  expect(status).toEqual({
    clientId: 'kafkatrace-consumer-1',
    ready: false,
    faults: ['commits: no commit for 9 s'],
    partitions: [
      { topic: 'kt.a.s', partition: 0, state: 'reading' },
      { topic: 'kt.a.s', partition: 1, state: 'paused' },
      { topic: 'kt.a.s', partition: 2, state: 'paused', reason: 'denied' },
      { topic: 'kt.a.s', partition: 3, state: 'restoring' },
      { topic: 'kt.a.s', partition: 4, state: 'restoring', reason: 'no leader' },
      { topic: 'kt.a.s', partition: 5, state: 'draining' },
      { topic: 'kt.a.s', partition: 7, state: 'paused', reason: '9 events wait in .retry' },
      { topic: 'kt.a.s', partition: 8, state: 'paused' },
    ],
    duplicates: [{ topic: 'kt.a.s', count: 3 }],
  })
  expect(Value.Check(ConsumerStatusz, status)).toBe(true)
})
