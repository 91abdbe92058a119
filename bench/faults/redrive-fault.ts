import { MENDED } from '../../consumer/testing/faulty-handlers.ts'
import type { Service } from '../../shared/testing/services.ts'
import { until } from '../../shared/testing/until.ts'
import { readTopic } from '../scan.ts'
import type { Log, LogRecord } from './judge.ts'
import { ALWAYS, kind, SOMETIMES } from './kinds.ts'
import { PLAIN } from './load.ts'
import { killAndRestart, restartBroker } from './service-faults.ts'
import { type Fault, STREAM, type Stage } from './stage.ts'

/** Dead letters are redriven by filter and one by one, while everything that takes part is killed. */

const UNMENDED = kind('unmended', 'dead', 1, () => ({ failures: 0, workMs: 0 }))

const GATHER_TIMEOUT_MS = 120_000
/** How long a job may take after the last fault, besides what its rate demands. */
const DONE_TIMEOUT_MS = 120_000
const LOOK_PAUSE_MS = 250
/** An act waits for the brokers, and for the transaction of a console that was killed. */
const ANSWER_TIMEOUT_MS = 60_000
/** How many letters are pressed at a time. */
const PRESSED_AT_ONCE = 8
/** Presses of the same letter, of which one acts. */
const PRESSES = 2

export const REDRIVE_FAULT: Fault = {
  name: 'redrive',
  what: 'dead letters are redriven by a job and one by one, on two consoles, while consoles, consumers and the broker are killed',
  async play(stage) {
    const { short, random, topic } = stage
    const wanted = short ? 500 : 5_000
    const failing = stage.load({ kinds: [UNMENDED], eventsPerSecond: 1_000, keys: 40 })
    const others = stage.load({ kinds: [{ ...PLAIN, weight: 20 }, SOMETIMES, ALWAYS], eventsPerSecond: 100, keys: 40 })
    const isFailing = ({ source }: { source: string }) => source.endsWith('-0')
    await until(() => stage.ledger.entries().filter(isFailing).length >= wanted, { timeoutMs: GATHER_TIMEOUT_MS })
    await failing.stop()
    await others.stop()
    const before = await stage.settled()
    const letters = before.dlq.filter(({ event }) => event !== undefined && isFailing(event))
    stage.did(`${letters.length} letters`)

    await stage.stop(stage.consumer)
    const consumers = [await stage.addConsumer({ [MENDED]: 'on' }), await stage.addConsumer({ [MENDED]: 'on' })]
    const consoles = [await stage.addConsole(), await stage.addConsole()] as const
    for (const service of [...consumers, ...consoles]) service.start()
    await Promise.all(consoles.map((service) => service.ready()))
    const load = stage.load({ kinds: [{ ...PLAIN, weight: 20 }, SOMETIMES], eventsPerSecond: 100, keys: 40 })

    const anyConsole = () => random.pick(consoles)
    const job = {
      filter: { type: UNMENDED.type, reason: 'handler failed' },
      ratePerSecond: letters.length / (short ? 12 : 60),
    }
    const presses: Promise<unknown>[] = []
    const pressJob = () => {
      stage.did('job pressed')
      presses.push(post(anyConsole(), `jobs`, job))
    }
    // Of those without a key, since a letter that is pressed overtakes the letters of its key that the job has not reached.
    const keyless = letters.filter(({ key }) => key === null)
    const pressLetters = () => {
      const [first] = keyless
      if (first === undefined) return
      for (let count = 0; count < PRESSED_AT_ONCE; count++) {
        const letter = random.pick([first, ...keyless])
        for (let times = 0; times < PRESSES; times++) presses.push(post(anyConsole(), pathOf(letter), {}))
      }
      stage.did('letters pressed')
    }

    const first = await post(consoles[0], 'jobs', job)
    if (first?.status !== 201) stage.wrong(`the job was answered with ${first?.status}: ${first?.text}`)
    const rounds = short ? 8 : 30
    const brokerTurns = new Set(short ? [random.integer(2, 5)] : [5, 12, 20].map((turn) => turn + random.integer(0, 4)))
    for (let round = 0; round < rounds; round++) {
      await stage.pause(300, 2_000)
      if (random.chance(0.5)) pressLetters()
      if (random.chance(0.2)) pressJob()
      if (brokerTurns.has(round)) await restartBroker(stage)
      else {
        const victim = random.pick([...consoles, ...consoles, ...consumers] as [Service, ...Service[]])
        await killAndRestart(stage, victim, consoles.includes(victim) ? 'console' : 'consumer')
      }
    }
    await Promise.all(consoles.map((service) => service.ready()))
    await jobsDone(stage, consoles)
    await stage.recovered('everything started', 'session')
    await load.stop()
    await Promise.all(presses)

    // Nothing is left for the button, whichever letter it is.
    for (const letter of Array.from({ length: 20 }, () => random.pick([letters[0] as LogRecord, ...letters]))) {
      const again = await post(anyConsole(), pathOf(letter), {})
      if (again?.status !== 200 || !again.text.startsWith('{"done":false'))
        stage.wrong(`a letter that had been redriven was answered with ${again?.status}: ${again?.text}`)
    }
    const last = await post(anyConsole(), 'jobs', job)
    if (last?.status !== 201) stage.wrong(`a job without letters was answered with ${last?.status}: ${last?.text}`)
    await jobsDone(stage, consoles)

    const after = await stage.settled()
    const released = await Promise.all(consoles.map((service) => service.linesWith(RELEASED)))
    judgeRedriven(
      stage,
      letters,
      after,
      released.some((lines) => lines > 0),
    )
    await judgeActs(stage, `${topic}.acts`, letters)
  },
  check: (_, { foreign }) => (foreign === 0 ? [] : [`${foreign} events in the log were sent by nobody`]),
}

const pathOf = ({ partition, offset }: LogRecord): string => `dead-letters/${partition}/${offset}/redrive`

interface Answer {
  status: number
  text: string
}

/** undefined when there was no answer. */
async function post(service: Service, path: string, body: object): Promise<Answer | undefined> {
  return ask(service, path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
}

async function ask({ port }: Service, path: string, request: RequestInit = {}): Promise<Answer | undefined> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/v1/streams/${STREAM}/${path}`, {
      ...request,
      keepalive: false,
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    })
    return { status: response.status, text: await response.text() }
  } catch {
    return undefined
  }
}

/** Waits until every job is done, by what both consoles say. */
async function jobsDone(stage: Stage, consoles: readonly Service[]): Promise<void> {
  const deadlineMs = performance.now() + DONE_TIMEOUT_MS
  for (;;) {
    const answers = await Promise.all(consoles.map((service) => ask(service, 'jobs')))
    const states = answers.map((answer) =>
      answer?.status === 200
        ? (JSON.parse(answer.text) as { jobs: { state: string }[] }).jobs.map(({ state }) => state)
        : [`answer ${answer?.status}: ${answer?.text}`],
    )
    if (states.every((all) => all.length > 0 && all.every((state) => state === 'done'))) return
    if (performance.now() > deadlineMs) {
      stage.wrong(
        `the jobs are not done after ${DONE_TIMEOUT_MS / 1_000} s: ${answers.map((one) => one?.text).join('; ')}`,
      )
      return
    }
    await Bun.sleep(LOOK_PAUSE_MS)
  }
}

const MAX_NAMED = 5

/** Reports letters for which a count is not one. */
function demandOnce(stage: Stage, letters: readonly LogRecord[], found: readonly string[], what: string): void {
  const counts = new Map<string, number>(letters.map((letter) => [placeOf(letter), 0]))
  const others: string[] = []
  for (const place of found) {
    const count = counts.get(place)
    if (count === undefined) others.push(place)
    else counts.set(place, count + 1)
  }
  const named = (places: readonly string[]) => `${places.length}: ${places.slice(0, MAX_NAMED).join(', ')}`
  const missing = [...counts].flatMap(([place, count]) => (count === 0 ? [place] : []))
  const repeated = [...counts].flatMap(([place, count]) => (count > 1 ? [`${place} ${count}×`] : []))
  if (missing.length > 0) stage.wrong(`letters that are not ${what}, ${named(missing)}`)
  if (repeated.length > 0) stage.wrong(`letters that are ${what} more than once, ${named(repeated)}`)
  if (others.length > 0) stage.wrong(`others that are ${what}, ${named(others)}`)
}

const placeOf = ({ partition, offset }: { partition: number; offset: number }): string => `${partition}/${offset}`

/** A console says so when the broker has ended a transaction in some partitions only: what it did is done again, as the same generation. */
const RELEASED = 'has not ended a transaction of acts'

/** Each letter that the filter matches is in the log once more, and nothing else is; and it was processed then, once. */
function judgeRedriven(
  stage: Stage,
  letters: readonly LogRecord[],
  { topic, input, dlq, processed }: Log,
  mayRepeat: boolean,
): void {
  const prefix = `${topic}.dlq/`
  const from = (records: readonly LogRecord[]) =>
    records.flatMap(({ generation, redrivenFrom = '' }) => (generation > 0 ? [redrivenFrom.replace(prefix, '')] : []))
  const redriven = from(input)
  demandOnce(stage, letters, mayRepeat ? [...new Set(redriven)] : redriven, 'redriven')
  // A result has no more of its redrive than the generation.
  const results = processed.filter(({ generation }) => generation > 0).length
  if (results !== letters.length) stage.wrong(`${results} of ${letters.length} redriven events were processed`)
  const dead = from(dlq).length
  if (dead > 0) stage.wrong(`redriven events that are dead letters again: ${dead}`)
}

interface Act {
  act: string
  letters?: [partition: number, offset: number, generation: number][]
}

/** The acts name each redriven letter once. */
async function judgeActs(stage: Stage, topic: string, letters: readonly LogRecord[]): Promise<void> {
  const named: string[] = []
  await readTopic(stage.kafka().bootstrapServers, topic, ['-f', '%s\\n'], (lines) => {
    for (const line of lines.split('\n').slice(0, -1)) {
      const { act, letters: acted = [] } = JSON.parse(line) as Act
      if (act !== 'redrive' && acted.length > 0) stage.wrong(`an act that nobody asked for: ${act}`)
      for (const [partition, offset, generation] of acted) {
        named.push(placeOf({ partition, offset }))
        if (generation !== 1) stage.wrong(`the letter ${partition}/${offset} was redriven as generation ${generation}`)
      }
    }
  })
  demandOnce(stage, letters, named, 'named by an act')
}
