import { join } from 'node:path'
import { type Static, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { root } from '../checks/check.ts'

/** What `bun run check:cluster node` saw: the data of the tables in docs/deployment.md. Only that command writes it, when all checks of the area
 * were run. */

const Scenario = Type.Object({
  name: Type.String(),
  eventsPerSecond: Type.Integer(),
  requests: Type.Integer(),
  /** Not answered with 202, of clients that never retry. */
  failed: Type.Integer(),
  lost: Type.Integer(),
  doubled: Type.Integer(),
  outOfOrder: Type.Integer(),
  /** The longest time without an answer 202. */
  longestGapMs: Type.Integer(),
  /** From the command to its end, or until everything was ready again. */
  seconds: Type.Number(),
})

const Use = Type.Object({
  /** A container of one pod. */
  name: Type.String(),
  cpuMilli: Type.Integer(),
  cpuRequestMilli: Type.Integer(),
  memoryMiB: Type.Integer(),
  memoryRequestMiB: Type.Integer(),
})

const Seen = Type.Object({
  machine: Type.String(),
  scenarios: Type.Array(Scenario),
  /** From its creation to its readiness, the slowest of its pods, after the images were there. */
  readySeconds: Type.Record(Type.String(), Type.Number()),
  /** At {@link eventsPerSecond}. */
  uses: Type.Array(Use),
  eventsPerSecond: Type.Integer(),
})

export type Scenario = Static<typeof Scenario>
export type Use = Static<typeof Use>
export type Seen = Static<typeof Seen>

const SEEN_FILE = 'helm/cluster/seen.json'

/** @returns undefined before the first whole run @throws Error when the file is not what the command writes */
export async function readSeen(): Promise<Seen | undefined> {
  const file = Bun.file(join(root, SEEN_FILE))
  if (!(await file.exists())) return undefined
  const seen: unknown = await file.json()
  if (!Value.Check(Seen, seen)) throw new Error(`${SEEN_FILE} is not what bun run check:cluster node writes`)
  return seen
}

export const writeSeen = (seen: Seen): Promise<number> =>
  Bun.write(join(root, SEEN_FILE), `${JSON.stringify(seen, undefined, 2)}\n`)

const row = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |\n`

const table = (heads: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  row(heads) + row(heads.map(() => '---')) + rows.map(row).join('')

/** The tables of docs/deployment.md. */
export function seenMarkdown(seen: Seen | undefined): string {
  if (seen === undefined) return 'No whole run is recorded yet; `bun run check:cluster node` records one.\n'
  const { machine, scenarios, readySeconds, uses, eventsPerSecond } = seen
  const played = scenarios.map((one) => [
    one.name,
    one.eventsPerSecond,
    one.requests,
    one.failed,
    one.lost,
    one.doubled,
    one.outOfOrder,
    `${(one.longestGapMs / 1_000).toFixed(1)} s`,
    `${one.seconds.toFixed(0)} s`,
  ])
  const used = uses.map((one) => [
    one.name,
    `${one.cpuMilli}m`,
    `${one.cpuRequestMilli}m`,
    `${one.memoryMiB} MiB`,
    `${one.memoryRequestMiB} MiB`,
  ])
  const ready = Object.entries(readySeconds).map(([name, seconds]) => `${name} ${seconds.toFixed(0)} s`)
  return [
    `On ${machine}, which the clients, Kafka and the cluster itself shared:\n`,
    table(
      [
        'while',
        'events a second',
        'requests',
        'failed',
        'lost',
        'doubled',
        'out of order',
        'longest time without a 202',
        'it took',
      ],
      played,
    ),
    `Pods were ready after at most: ${ready.join(', ')}. At ${eventsPerSecond} events a second, each pod used:\n`,
    table(['pod of', 'CPU', 'requested', 'memory', 'requested'], used),
  ].join('\n')
}
