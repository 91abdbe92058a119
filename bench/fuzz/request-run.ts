import { headerText } from '../../shared/events/headers.ts'
import { readAll } from '../../shared/kafka/range-reader.ts'
import { until } from '../../shared/testing/until.ts'
import { sampleMemory } from '../faults/memory.ts'
import { createRandom } from '../faults/random.ts'
import { bytesToText, savedInputs, textToBytes } from './corpus.ts'
import { type Found, type FuzzOptions, keep, MAX_FOUND, type Result, sayProgress, shrinkTime } from './found.ts'
import { memoryFaults } from './memory.ts'
import { type Answered, isLengthRight, type Mutated, mutated, NAME, send, withLength } from './requests.ts'
import { eventsIn, outcomeFaults, partitionsOf, type Rig, residentMbOf, TOPICS } from './rig.ts'
import { smallest } from './shrink.ts'

/** Requests to a real producer: each is answered or closed, nothing is its fault, and what it answers is true. */

const CONNECTIONS = 128
/** A request that does not come is given up before, and so is a connection on which nothing comes: Bun counts its time in steps of 4 s, and a busy machine counts later. */
const HANG_MS = 60_000
const OUTCOMES_TIMEOUT_MS = 120_000
const MEMORY_EVERY_MS = 250

/** A request as it is saved. */
interface SavedRequest {
  readonly bytes: string
  readonly halfCloses: boolean
}

/** An event's place in the log, as a receipt tells it. */
interface Receipt {
  readonly id: string
  readonly place: string
}

const RECEIPT = /\{"id":"((?:[^"\\]|\\.)*)","stream":"(\w+)","partition":(\d+),"offset":(\d+)/g

const receiptsIn = (text: string): Receipt[] =>
  [...text.matchAll(RECEIPT)].map(([, id = '', stream, partition, offset]) => ({
    id: JSON.parse(`"${id}"`) as string,
    place: `${stream}/${partition}/${offset}`,
  }))

/** What is kept of a request until the log is read. */
interface Judged {
  readonly name: string
  readonly made: string
  readonly receipts: readonly Receipt[]
  /** All of it was answered, so that what has a receipt is stored and nothing else. */
  readonly isWhole: boolean
  /** It was refused, so that none of it is stored. */
  readonly isRefused: boolean
}

/** A request with what was wrong, and what was answered. */
interface Suspect {
  readonly sent: Mutated
  readonly fault: string
  readonly text: string
}

const ENDED = 'ended the producer'

/** What is wrong with an answer by itself: the kind of fault, in few words. */
export function faultOf({ hung, statuses, text }: Answered): string | undefined {
  if (hung) return 'was neither answered nor closed'
  // 505: the runtime's own answer to what is no HTTP/1.1 at all.
  const wrong = statuses.find((status) => status >= 500 && status !== 505 && status !== 503)
  if (wrong !== undefined) return `was answered ${wrong}`
  // A busy machine. It says when to send again, and why.
  const isSaid = /^retry-after: \d+\r$/im.test(text) && text.includes('"detail":"')
  return statuses.includes(503) && !isSaid ? 'was answered 503 without a reason or a time' : undefined
}

export async function fuzzRequests(rig: Rig, options: FuzzOptions): Promise<Result> {
  const { seed, inputs, say } = options
  const found: Found[] = []
  const suspects: Suspect[] = []
  const judged: Judged[] = []
  const open = new Set<Mutated>()
  /** The last ones: that the producer has ended is noticed after its connections are closed. */
  const unanswered: Mutated[] = []
  const counts = { stored: 0, refused: 0, busy: 0, closed: 0 }
  let next = 0
  let reviving: Promise<void> | undefined

  const port = (): number => Number(rig.producer().started['port'])
  /** Sends a request alone, and says what is wrong with that. */
  async function faultAlone(request: Pick<Mutated, 'pieces' | 'halfCloses'>): Promise<string | undefined> {
    if (!rig.producer().running()) await rig.restart('producer')
    const answered = await send(port(), request, HANG_MS)
    return (await isAlive(rig)) ? faultOf(answered) : ENDED
  }
  /** The producer has ended: finds out by which of the requests that were open. */
  async function revive(): Promise<void> {
    say('the producer has ended: looking for the request')
    const last = JSON.stringify(rig.producer().log.at(-1))
    const asked = [...open, ...unanswered.splice(0)]
    let culprit: Mutated | undefined
    for (const sent of asked) {
      if ((await faultAlone(sent)) !== ENDED) continue
      culprit = sent
      break
    }
    if (culprit !== undefined) suspects.push({ sent: culprit, fault: ENDED, text: '' })
    else found.push({ what: `the producer ended, by none of ${asked.length} requests alone; it said last: ${last}` })
    if (!rig.producer().running()) await rig.restart('producer')
  }
  async function connection(): Promise<void> {
    while (next < inputs && suspects.length + found.length < MAX_FOUND) {
      const index = next++
      // Each input by itself, whatever others are drawn beside it.
      const random = createRandom(Math.imul(seed, 0x9e3779b1) + index)
      const sent = mutated(`m${index}-${random.integer(0x1000_0000, 0xffff_ffff).toString(16)}.`, rig.key, random)
      open.add(sent)
      const answered = await send(port(), sent, HANG_MS)
      if (!rig.producer().running() || reviving !== undefined) {
        reviving ??= revive().finally(() => {
          reviving = undefined
        })
        await reviving
        open.delete(sent)
        continue
      }
      open.delete(sent)
      const { statuses, text } = answered
      if (statuses.length === 0) unanswered.push(sent)
      if (unanswered.length > CONNECTIONS) unanswered.shift()
      const fault = faultOf(answered)
      if (fault !== undefined) suspects.push({ sent, fault, text })
      if (statuses.length === 0) counts.closed++
      else if (statuses.some((status) => status < 300)) counts.stored++
      else if (statuses.includes(503)) counts.busy++
      else counts.refused++
      judged.push({
        name: sent.name,
        made: sent.made,
        receipts: receiptsIn(text),
        isWhole:
          statuses.length === 1 &&
          (/^HTTP\/1\.1 202[\s\S]*"receipts":/.test(text) || /"unknown":0,"refused":\d+,"complete":true/.test(text)),
        isRefused: statuses.length > 0 && statuses.every((status) => status >= 400),
      })
    }
  }

  for (const { name, saved } of savedInputs<SavedRequest>('requests', options.corpus)) {
    const { bytes, halfCloses } = saved.input
    const fault = await faultAlone({ pieces: [textToBytes(bytes)], halfCloses })
    if (fault !== undefined) found.push({ what: `${name} ${fault}`, file: name })
  }
  const memory = sampleMemory([rig.producer().pid], MEMORY_EVERY_MS)
  const beganMs = performance.now()
  const stopProgress = sayProgress(() => {
    const perSecond = Math.round((1_000 * next) / (performance.now() - beganMs))
    const { stored, refused, busy, closed } = counts
    return `requests: ${next} of ${inputs}: ${stored} with a 2xx, ${refused} refused, ${busy} while busy, ${closed} closed; ${perSecond}/s, ${residentMbOf(rig.producer().pid)} MB, ${suspects.length + found.length} faults`
  }, say)
  await Promise.all(Array.from({ length: CONNECTIONS }, connection))
  stopProgress()
  memory.stop()
  for (const what of memoryFaults('producer', memory.samples[0] ?? [])) found.push({ what })

  // One of each kind is made small: the others are most likely the same.
  for (const [fault, all] of Map.groupBy(suspects, ({ fault }) => fault)) {
    const [{ sent, text }] = all as [Suspect, ...Suspect[]]
    const { halfCloses, pieces } = sent
    const whole = Buffer.concat(pieces)
    // With a length that was right, a shorter body would be waited for.
    const madeOf = isLengthRight(whole) ? withLength : (bytes: Buffer) => bytes
    const fails = async (bytes: readonly number[]): Promise<boolean> =>
      (await faultAlone({ pieces: [madeOf(Buffer.from(bytes))], halfCloses })) === fault
    const isAlone = await fails([...whole])
    const bytes = isAlone ? madeOf(Buffer.from(await smallest([...whole], fails, shrinkTime()))) : whole
    const request: SavedRequest = { bytes: bytesToText(bytes), halfCloses }
    const how = isAlone ? `${bytes.length} of its ${whole.length} bytes do so` : 'not again when sent alone'
    const more = all.length > 1 ? `, and ${all.length - 1} more` : ''
    found.push({
      what: `${sent.name} ${fault}${more}; ${how} (${sent.made}): ${text.slice(0, 300)}`,
      file: keep('requests', fault, request, options),
    })
  }
  if (!rig.producer().running()) await rig.restart('producer')
  found.push(...(await logFaults(rig, judged)).slice(0, MAX_FOUND).map((what) => ({ what })))
  say(`requests: ${next} sent: ${JSON.stringify(counts)}, ${found.length} faults`)
  return { inputs: next, found }
}

const PROBE_TIMEOUT_MS = 5_000

/** A process that ends closes its connections first. */
async function isAlive(rig: Rig): Promise<boolean> {
  const { opsPort } = rig.producer().started
  const probe = fetch(`http://127.0.0.1:${opsPort}/livez`, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) })
  const isAnswered = await probe.then(
    () => true,
    () => false,
  )
  if (!isAnswered) await until(() => !rig.producer().running(), { timeoutMs: PROBE_TIMEOUT_MS }).catch(() => undefined)
  return rig.producer().running()
}

/** Sends an event as any client does. @returns what is wrong with the answer */
export async function goodEventFault(rig: Rig, stream: string): Promise<string | undefined> {
  const answer = await fetch(`http://127.0.0.1:${rig.producer().started['port']}/v1/streams/${stream}/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${rig.key}` },
    body: JSON.stringify({ type: 't', id: `good-${crypto.randomUUID()}`, source: '/good' }),
  })
  return answer.status === 202 ? undefined : `a good event was answered ${answer.status}: ${await answer.text()}`
}

/** Whether what was answered is in the log and nothing else, and whether each event has its one outcome, that of a good event at the end too. */
async function logFaults(rig: Rig, judged: readonly Judged[]): Promise<string[]> {
  const faults: string[] = []
  const good = await goodEventFault(rig, 'events')
  if (good !== undefined) faults.push(good)
  const stored = new Map<string, string>()
  const idsOf = new Map<string, string[]>()
  for (const stream of ['events', 'hooks'] as const)
    await readAll(rig.reader, partitionsOf(TOPICS[stream]), ({ partition, offset, headers }) => {
      const id = headerText(headers, 'ce_id') ?? ''
      stored.set(`${stream}/${partition}/${offset}`, id)
      const name = NAME.exec(id)?.[0]
      if (name !== undefined) idsOf.set(name, [...(idsOf.get(name) ?? []), id])
    })
  for (const { name, made, receipts, isWhole, isRefused } of judged) {
    const there = idsOf.get(name) ?? []
    for (const { id, place } of receipts)
      if (stored.get(place) !== id)
        faults.push(`${name} has a receipt for ${id} at ${place}, and is not there (${made})`)
    const own = receipts.map(({ id }) => id).filter((id) => id.includes(name))
    if (isWhole && own.toSorted().join() !== there.toSorted().join())
      faults.push(`${name} has receipts for ${own}, and stored is ${there} (${made})`)
    if (isRefused && there.length > 0) faults.push(`${name} was refused and is stored (${made})`)
  }
  for (const stream of ['events', 'hooks'] as const) {
    const events = await eventsIn(rig.reader, TOPICS[stream])
    faults.push(
      ...(await outcomeFaults(rig.reader, TOPICS[stream], events, {
        timeoutMs: OUTCOMES_TIMEOUT_MS,
        isRunning: () => rig.consumer().running(),
      })),
    )
  }
  if (!rig.consumer().running()) faults.push('the consumer has ended')
  return faults
}
