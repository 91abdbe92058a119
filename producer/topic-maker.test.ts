import { afterEach, expect, test } from 'bun:test'
import pino from 'pino'
import { streamTopics } from '../shared/events/topics.ts'
import { simulateTime } from '../shared/testing/simulated-time.ts'
import { until } from '../shared/testing/until.ts'
import { TopicMaker } from './topic-maker.ts'

let ending = new AbortController()
afterEach(() => ending.abort())

function maker() {
  ending = new AbortController()
  const made: string[] = []
  /** By stream: why its topics cannot be made. */
  const faults = new Map<string, string>()
  let open = 0
  let isAway = false
  const one = new TopicMaker({
    openAdmin: () => {
      open++
      return {
        ensureGroups: async (groups) => {
          if (isAway) throw new Error('no broker answers')
          return groups.map(([input = '']) => {
            const fault = faults.get(input)
            if (fault === undefined) made.push(input)
            return fault
          })
        },
        close: async () => void open--,
      }
    },
    options: { partitions: 1, replication: 1 },
    log: pino({ level: 'silent' }),
    ending: ending.signal,
  })
  return {
    one,
    made,
    faults,
    open: () => open,
    away: (is: boolean) => {
      isAway = is
    },
  }
}

const streams = (...names: string[]) => names.map((name) => streamTopics('acme', name))

test('topics are made once, those of streams that come later too, and of streams that were gone again', async () => {
  const { one, made, open } = maker()
  one.want(streams('a', 'b'))
  await until(() => open() === 0 && made.length > 0)
  expect(made).toEqual(['kt.acme.a', 'kt.acme.b'])
  one.want(streams('b', 'c'))
  await until(() => open() === 0 && made.length > 2)
  one.want(streams('a', 'c'))
  await until(() => open() === 0 && made.length > 3)
  expect(made).toEqual(['kt.acme.a', 'kt.acme.b', 'kt.acme.c', 'kt.acme.a'])
})

test('one that cannot be made holds up no other, is said, and is tried until it is made or not wanted', async () => {
  const { one, made, faults, open } = maker()
  faults.set('kt.acme.bad', 'no leave').set('kt.acme.later', 'no leave yet')
  one.want(streams('bad', 'later', 'good'))
  await until(() => one.fault === 'no leave; no leave yet')
  expect(made).toEqual(['kt.acme.good'])
  faults.delete('kt.acme.later')
  await until(() => one.fault === 'no leave')
  expect(made).toEqual(['kt.acme.good', 'kt.acme.later'])
  one.want(streams('later', 'good', 'new'))
  await until(() => made.length === 3 && open() === 0)
  expect([made[2], one.fault]).toEqual(['kt.acme.new', undefined])
})

test('a right that is missing is said once for a stream, with what gives it', async () => {
  const { one, faults } = maker()
  const each = ['', '.retry', '.processed', '.dlq'].map((end) => `kt.acme.a${end}: Authorization failed.`)
  faults
    .set('kt.acme.a', `topics cannot be created: ${each.join('; ')}`)
    .set('kt.acme.b', 'kt.acme.b: too many replicas')
  one.want(streams('a', 'b'))
  await until(() => one.fault !== undefined)
  expect(one.fault).toBe(
    'kt.acme.a: it takes an ACL that allows CREATE on kt. (kafka-acls producer --create-topics), or CREATE_TOPICS=off; kt.acme.b: too many replicas',
  )
})

test('one that is new does not wait for the next try of others', async () => {
  const time = simulateTime(1)
  try {
    const { one, made, faults } = maker()
    faults.set('kt.acme.bad', 'no leave')
    one.want(streams('bad'))
    await time.pass(60_000)
    one.want(streams('bad', 'new'))
    expect(await time.until(() => made.length === 1, 100)).toBe(true)
  } finally {
    time.end()
  }
})

test('without a broker it goes on trying', async () => {
  const { one, made, away } = maker()
  away(true)
  one.want(streams('a'))
  await until(() => one.fault === 'no broker answers')
  away(false)
  await until(() => made.length === 1)
})
