import type { Service } from '../../shared/testing/services.ts'
import { until } from '../../shared/testing/until.ts'
import type { Log, LogRecord } from './judge.ts'
import { ALWAYS, SOMETIMES } from './kinds.ts'
import { PLAIN } from './load.ts'
import { type OutcomeReader, readOutcomes } from './outcome-reader.ts'
import { killAndRestart, restartBroker } from './service-faults.ts'
import { type Fault, STREAM, type Stage } from './stage.ts'

/** Readers follow outcomes under load, and are cut off in every way. */

/** How long readers may take to have everything once nothing more comes. */
const COMPLETE_TIMEOUT_MS = 60_000

/** How often a reader is cut off after an outcome, with others behind it on their way. */
const CUT_SHARE = 1 / 500

/** What a reader has got: `outcome partition`, and the offsets in the order in which they came. */
interface Reading {
  name: string
  role: 'all' | 'dead'
  reader: OutcomeReader
  offsets: Map<string, number[]>
  count: number
}

interface Outcome {
  outcome: 'processed' | 'dead'
  partition: number
  offset: number
  id?: string
}

export const FOLLOW_FAULT: Fault = {
  name: 'follow',
  what: 'readers of outcomes are cut off, are slow, and lose their console or the broker: each gets every outcome once and in order',
  env: { console: { FOLLOWER_MAX_BYTES: '65536' } },
  async play(stage) {
    const consoles = [await stage.addConsole(), await stage.addConsole()] as const
    for (const service of consoles) service.start()
    await Promise.all(consoles.map((service) => service.ready()))
    const readings = [
      follow(stage, 'all', 'all', consoles),
      follow(stage, 'another of all', 'all', consoles),
      follow(stage, 'dead', 'dead', consoles),
    ] as const
    try {
      const hasPosition = () => readings.every(({ reader }) => reader.lastId() !== undefined)
      await until(hasPosition, { what: 'readers to be connected' })
      await disturb(stage, consoles, readings)
      const log = await stage.settled()
      for (const reading of readings) await judgeReading(stage, reading, expectedOf(reading, log))
    } finally {
      for (const { reader } of readings) await reader.stop()
    }
  },
}

async function disturb(
  stage: Stage,
  consoles: readonly [Service, ...Service[]],
  readings: readonly [Reading, ...Reading[]],
): Promise<void> {
  const { random, short } = stage
  const load = stage.load({
    kinds: [{ ...PLAIN, weight: 40 }, SOMETIMES, { ...ALWAYS, weight: 2 }],
    eventsPerSecond: 400,
  })
  const brokerTurns = new Set(short ? [random.integer(2, 4)] : [8, 20, 32].map((turn) => turn + random.integer(0, 5)))
  for (let round = 0; round < (short ? 6 : 45); round++) {
    await stage.pause(100, 1_500)
    const { reader } = random.pick(readings)
    if (brokerTurns.has(round)) await restartBroker(stage)
    else if (random.chance(0.25)) await killAndRestart(stage, random.pick(consoles), 'console')
    else if (random.chance(0.5)) {
      reader.cut()
      stage.did('reader cut off')
    } else {
      reader.pause(random.integer(500, short ? 4_000 : 20_000))
      stage.did('reader slow')
    }
  }
  await stage.recovered('everything started', 'session')
  await load.stop()
}

function follow(
  stage: Stage,
  name: string,
  role: Reading['role'],
  consoles: readonly [Service, ...Service[]],
): Reading {
  const offsets: Reading['offsets'] = new Map()
  const random = stage.random.fork()
  const reading: Reading = {
    name,
    role,
    offsets,
    count: 0,
    reader: readOutcomes({
      path: `/v1/streams/${STREAM}/outcomes${role === 'dead' ? '?outcome=dead' : ''}`,
      port: () => random.pick(consoles).port,
      onEvent(event, data) {
        if (event === 'end') stage.did(`told the end: ${(JSON.parse(data) as { reason: string }).reason}`)
        if (event !== 'outcome') return
        const { outcome, partition, offset } = JSON.parse(data) as Outcome
        const place = `${outcome} ${partition}`
        const known = offsets.get(place)
        if (known === undefined) offsets.set(place, [offset])
        else known.push(offset)
        reading.count++
        if (!random.chance(CUT_SHARE)) return
        stage.did('reader cut off between two outcomes')
        throw new Error('cut off')
      },
      onRefusal: (status, text) => stage.wrong(`the reader of ${name} was answered with ${status}: ${text}`),
    }),
  }
  return reading
}

function expectedOf({ role }: Reading, { processed, dlq }: Log): Map<string, number[]> {
  const expected = new Map<string, number[]>()
  const add = (outcome: Outcome['outcome'], records: readonly LogRecord[]): void => {
    for (const { partition, offset } of records) {
      const place = `${outcome} ${partition}`
      const known = expected.get(place)
      if (known === undefined) expected.set(place, [offset])
      else known.push(offset)
    }
  }
  add('dead', dlq)
  if (role === 'all') add('processed', processed)
  return expected
}

const MAX_NAMED = 5

/** What came must be what is in the log, each once and in the order of its partition. */
async function judgeReading(
  stage: Stage,
  reading: Reading,
  expected: ReadonlyMap<string, readonly number[]>,
): Promise<void> {
  const { name, offsets, reader } = reading
  const total = [...expected.values()].reduce((sum, all) => sum + all.length, 0)
  await until(() => reading.count >= total, { timeoutMs: COMPLETE_TIMEOUT_MS }).catch(() => undefined)
  await reader.stop()
  stage.did(`${reading.count} outcomes of ${name}`)
  const named = (found: readonly number[]) => `${found.length}: ${found.slice(0, MAX_NAMED).join(', ')}`
  for (const place of new Set([...offsets.keys(), ...expected.keys()])) {
    const [got, there] = [offsets.get(place) ?? [], new Set(expected.get(place))]
    const seen = new Set<number>()
    const repeated = got.filter((offset) => seen.has(offset) || !seen.add(offset))
    const missing = [...there].filter((offset) => !seen.has(offset))
    const others = got.filter((offset) => !there.has(offset))
    const turned = got.filter((offset, index) => offset < (got[index - 1] ?? 0))
    if (missing.length > 0) stage.wrong(`the reader of ${name} misses outcomes ${place}, ${named(missing)}`)
    if (repeated.length > 0) stage.wrong(`the reader of ${name} got outcomes again ${place}, ${named(repeated)}`)
    if (others.length > 0) stage.wrong(`the reader of ${name} got what is not in the log ${place}, ${named(others)}`)
    if (turned.length > 0) stage.wrong(`the reader of ${name} got outcomes out of order ${place}, ${named(turned)}`)
  }
}
