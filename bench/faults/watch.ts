import { fetchMetadata } from '../../shared/dev/brokers/wire.ts'
import {
  type CommittedOffset,
  fetchCommitted,
  findCoordinator,
  listOffsets,
} from '../../shared/dev/brokers/wire-admin.ts'
import type { Service } from '../../shared/testing/services.ts'

/**
 * Watches from outside, as a client that is none of the services', whether what a group decides is committed: how long it takes until it is
 * again, and whether a consumer calls itself ready meanwhile though nothing is.
 */

/** What a look sees of one partition of the stream's own topic. */
export interface Seen {
  /** Changes with every commit. */
  position: string
  /** Events that stand in the log and behind the committed offset. */
  undecided: number
}

/** One look at all partitions; undefined while the cluster cannot answer. */
export type Look = () => Promise<readonly Seen[] | undefined>

export interface Watch {
  /**
   * Resolves once every partition that has undecided events now has been committed again, to the partitions that were not within the limit.
   * @throws Error when the log could not be seen within the limit
   */
  nextCommit(limitMs: number): Promise<number[]>
  stop(): Promise<void>
}

export interface WatchOptions {
  look: Look
  /** Those of the group; those that do not run do not count. */
  consumers(): readonly Pick<Service, 'name' | 'pid' | 'running' | 'isReady'>[]
  /** Is told of consumers that have been ready for too long without a commit, once a stall. */
  wrong(what: string): void
  pauseMs?: number
  /** After this long without a commit no consumer of undecided events may say that it is ready. */
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
  /** Since when each process has said that it is ready without a break, by its id. */
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
  // On its own, since a process that is frozen takes its time to say nothing.
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

/** Looks by Kafka's own protocol. Answers nothing while any part of what it asks is away. */
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
  /** Who answered last is asked first: another may be frozen. */
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

/** What was committed before the first record that is left is behind all that can still be read. */
const seenOf = ({ offset, metadata }: CommittedOffset, beginning: number, end: number): Seen => ({
  position: `${offset} ${metadata}`,
  undecided: Math.max(0, end - Math.max(offset, beginning)),
})
