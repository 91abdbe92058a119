import { fetchMetadata } from '../../shared/dev/brokers/wire.ts'
import {
  type CommittedOffset,
  fetchCommitted,
  findCoordinator,
  listOffsets,
} from '../../shared/dev/brokers/wire-admin.ts'
import type { Service } from '../../shared/testing/services.ts'

/**
 * Watches from outside, with a client that is not the services', whether a group's outcomes are committed: how long until the next commit,
 * and whether a consumer reports ready while nothing is committed.
 */

/** The state of one partition of the input topic. */
export interface Seen {
  /** Changes with every commit. */
  position: string
  /** Events behind the committed offset. */
  undecided: number
}

/** The state of all partitions; undefined while the cluster cannot answer. */
export type Look = () => Promise<readonly Seen[] | undefined>

export interface Watch {
  /**
   * Waits until every partition with undecided events has been committed again. Resolves to the partitions that were not within the limit.
   * @throws Error when the log could not be read within the limit
   */
  nextCommit(limitMs: number): Promise<number[]>
  stop(): Promise<void>
}

export interface WatchOptions {
  look: Look
  /** Consumers of the group. Stopped ones are ignored. */
  consumers(): readonly Pick<Service, 'name' | 'pid' | 'running' | 'isReady'>[]
  /** Called once for each stall: consumers that were ready for too long without a commit. */
  wrong(what: string): void
  pauseMs?: number
  /** After this long without a commit, no consumer with undecided events may report ready. */
  readyLimitMs?: number
}

const LOOK_PAUSE_MS = 250
const READY_LIMIT_MS = 30_000
const QUESTION_TIMEOUT_MS = 1_000

interface Partition {
  position: string
  /** Since when there has been something to commit and nothing was committed. */
  stalledSinceMs: number
  told: boolean
}

export function watchCommits(options: WatchOptions): Watch {
  const { look, consumers, wrong, pauseMs = LOOK_PAUSE_MS, readyLimitMs = READY_LIMIT_MS } = options
  const partitions: Partition[] = []
  /** Since when each process has reported ready without a break, by process ID. */
  let readySinceMs = new Map<number, number>()
  const waiting = new Set<(seen: readonly Seen[], atMs: number) => void>()
  let stopped = false
  const running = () => consumers().filter((one) => one.running())

  const judge = (seen: readonly Seen[], atMs: number): void => {
    for (const [index, { position, undecided }] of seen.entries()) {
      const known = partitions[index]
      if (known === undefined || known.position !== position || undecided === 0) {
        partitions[index] = { position, stalledSinceMs: atMs, told: false }
        continue
      }
      const all = running()
      const ready = all.map((one) => readySinceMs.get(one.pid()) ?? Number.POSITIVE_INFINITY)
      const sinceMs = Math.max(known.stalledSinceMs, ...ready)
      if (known.told || all.length === 0 || atMs - sinceMs < readyLimitMs) continue
      known.told = true
      const names = all.map(({ name }) => name).join(', ')
      const seconds = ((atMs - sinceMs) / 1_000).toFixed(0)
      wrong(`${names}: ready for ${seconds} s without a commit in partition ${index}; undecided events: ${undecided}`)
    }
  }
  const repeat = async (turn: () => Promise<void>): Promise<void> => {
    while (!stopped) {
      await turn()
      await Bun.sleep(pauseMs)
    }
  }
  const looking = repeat(async () => {
    const beganMs = performance.now()
    const seen = await look()
    if (seen === undefined) return
    judge(seen, beganMs)
    for (const take of [...waiting]) take(seen, beganMs)
  })
  // Separate from the loop: a frozen process takes a while to not answer.
  const probing = repeat(async () => {
    const beganMs = performance.now()
    const all = running()
    const ready = await Promise.all(all.map((one) => one.isReady()))
    readySinceMs = new Map(
      all.flatMap((one, index) => (ready[index] ? [[one.pid(), readySinceMs.get(one.pid()) ?? beganMs] as const] : [])),
    )
  })

  return {
    nextCommit(limitMs) {
      return new Promise((resolve, reject) => {
        const sinceMs = performance.now()
        let before: readonly Seen[] | undefined
        const open = new Set<number>()
        const take = (seen: readonly Seen[], atMs: number): void => {
          if (atMs < sinceMs) return
          if (before === undefined) {
            before = seen
            for (const [index, { undecided }] of seen.entries()) if (undecided > 0) open.add(index)
          }
          for (const index of open) {
            const now = seen[index]
            if (now === undefined || now.undecided === 0 || now.position !== before[index]?.position) open.delete(index)
          }
          if (open.size === 0) end()
        }
        const end = (): void => {
          clearTimeout(timer)
          waiting.delete(take)
          if (before === undefined) reject(new Error(`the cluster could not be asked within ${limitMs} ms`))
          else resolve([...open])
        }
        const timer = setTimeout(end, limitMs)
        waiting.add(take)
      })
    },
    async stop() {
      stopped = true
      await Promise.all([looking, probing])
    },
  }
}

/** Reads the state by Kafka's protocol. Undefined while any part of it is unavailable. */
export function lookFromOutside(servers: () => readonly string[], group: string, topic: string): Look {
  const find = async (address: string) => {
    const { brokers, topics } = await fetchMetadata(address, QUESTION_TIMEOUT_MS, [topic])
    const addressOf = new Map(brokers.map(({ id, host, port }) => [id, `${host}:${port}`]))
    const coordinator = addressOf.get(await findCoordinator(address, QUESTION_TIMEOUT_MS, 'group', group))
    const leaders = (topics[0]?.leaders ?? []).map((id) => addressOf.get(id))
    return { coordinator, leaders }
  }
  const seeBy = async (address: string): Promise<Seen[] | undefined> => {
    const { coordinator, leaders } = await find(address)
    if (coordinator === undefined || leaders.length === 0 || leaders.includes(undefined)) return undefined
    const offsets = (partition: number, which: 'beginning' | 'end') =>
      listOffsets(leaders[partition] ?? '', QUESTION_TIMEOUT_MS, topic, [partition], which)
    const partitions = [...leaders.keys()]
    const [committed, beginnings, ends] = await Promise.all([
      fetchCommitted(coordinator, QUESTION_TIMEOUT_MS, group, topic, partitions),
      Promise.all(partitions.map((partition) => offsets(partition, 'beginning'))),
      Promise.all(partitions.map((partition) => offsets(partition, 'end'))),
    ])
    return committed.map((one, partition) => seenOf(one, beginnings[partition]?.[0] ?? 0, ends[partition]?.[0] ?? 0))
  }
  /** The broker that answered last comes first, since another may be frozen. */
  let first = ''
  return async () => {
    const others = servers().filter((address) => address !== first)
    for (const address of servers().includes(first) ? [first, ...others] : others) {
      const seen = await seeBy(address).catch(() => undefined)
      first = address
      if (seen !== undefined) return seen
    }
    return undefined
  }
}

/** A committed offset before the log's beginning counts as the beginning: earlier records no longer exist. */
const seenOf = ({ offset, metadata }: CommittedOffset, beginning: number, end: number): Seen => ({
  position: `${offset} ${metadata}`,
  undecided: Math.max(0, end - Math.max(offset, beginning)),
})
