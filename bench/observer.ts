import { join } from 'node:path'
import { startWorker } from './worker.ts'

/**
 * Sees outcomes as any reader of committed records does: kcat, which does not depend on our client, follows `.processed` in a process that does nothing
 * but note when each record arrives. The scan later matches records to events by partition and offset.
 */

/** Printed by the process when more records have arrived. */
export interface ObserverLine {
  seen: number
}

/** When records were seen, ms since the epoch, by partition and offset. */
export interface Seen {
  count: number
  at(partition: number, offset: number): number | undefined
  times(): Iterable<number>
}

/** A process that counts what arrives, and leaves behind a file of it. */
interface Counting {
  readonly pid: number
  /** Records seen so far. */
  count(): number
  /** Resolves once it has said how many there are, if only none. */
  heard(): Promise<void>
  /** Resolves when so many records were seen, or none for so long. @returns whether they were seen */
  until(count: number, patienceMs: number): Promise<boolean>
  /** @returns its file */
  end(): Promise<ArrayBuffer>
}

export interface Observer extends Pick<Counting, 'pid' | 'count' | 'until'> {
  end(): Promise<Seen>
}

const LOOK_INTERVAL_MS = 20

/** Follows a topic, which must exist and may be empty, from the beginning. @param directory for its file */
export function startObserver(brokers: string, topic: string, directory: string): Observer {
  const file = join(directory, `seen-${topic}`)
  const counting = startCounting('the observer', 'observer-worker.ts', [brokers, topic], file)
  return { ...counting, end: async () => seenOf(await counting.end()) }
}

/** @param script prints {@link ObserverLine}s; its last argument is the file, which it writes at SIGTERM */
export function startCounting(name: string, script: string, args: readonly string[], file: string): Counting {
  const command = [process.execPath, join(import.meta.dir, script), ...args, file]
  const worker = startWorker<ObserverLine>(name, command)
  let count: number | undefined
  let ending = false
  let fault: unknown
  const reading = (async () => {
    try {
      for (;;) ({ seen: count } = await worker.next())
    } catch (error) {
      if (!ending) fault = error
    }
  })()
  const look = async (): Promise<void> => {
    if (fault !== undefined) throw fault
    await Bun.sleep(LOOK_INTERVAL_MS)
  }
  return {
    pid: worker.pid,
    count: () => count ?? 0,
    async heard() {
      while (count === undefined) await look()
    },
    async until(wanted, patienceMs) {
      let before = count
      let changedMs = performance.now()
      while ((count ?? 0) < wanted) {
        if (count !== before) changedMs = performance.now()
        else if (performance.now() - changedMs > patienceMs) return false
        before = count
        await look()
      }
      return true
    },
    async end() {
      ending = true
      await worker.end()
      await reading
      if (fault !== undefined) throw fault
      return await Bun.file(file).arrayBuffer()
    },
  }
}

/** Three numbers a record: partition, offset, time. */
export function seenOf(bytes: ArrayBuffer): Seen {
  const numbers = new Float64Array(bytes)
  const times = new Map<number, number>()
  for (let at = 0; at + 2 < numbers.length; at += 3)
    times.set(placeOf(numbers[at] ?? 0, numbers[at + 1] ?? 0), numbers[at + 2] ?? 0)
  return {
    count: times.size,
    at: (partition, offset) => times.get(placeOf(partition, offset)),
    times: () => times.values(),
  }
}

/** Offsets of a run are far below this. */
const PARTITION_FACTOR = 2 ** 40
const placeOf = (partition: number, offset: number): number => partition * PARTITION_FACTOR + offset

/** Lines that arrived in one piece at one time. */
export interface Piece {
  text: string
  atMs: number
}

/** Parses `PARTITION OFFSET` lines. A line in two pieces counts as arrived with its end. */
export function placesOf(pieces: readonly Piece[]): Float64Array<ArrayBuffer> {
  const numbers: number[] = []
  let rest = ''
  for (const { text, atMs } of pieces) {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      const space = line.indexOf(' ')
      numbers.push(Number(line.slice(0, space)), Number(line.slice(space + 1)), atMs)
    }
  }
  return Float64Array.from(numbers)
}
