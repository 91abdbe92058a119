import { join } from 'node:path'
import { type Static, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { SingleAcl } from '../kafka/acls.ts'
import { MECHANISMS, type Mechanism } from './secured-kafka.ts'

/** What the tests in bench/secured/ saw: the data of the tables in docs/security.md. Only they write it. */

/** What a client's credentials, or the broker's certificate, are like. */
export const STATES = {
  right: 'right',
  wrong: 'wrong',
  expired: 'expired or revoked',
  authority: 'unknown authority',
  host: 'wrong host name',
  brokerExpired: 'expired broker certificate',
} as const

export type State = keyof typeof STATES

const Refusal = Type.Object({
  mechanism: Type.String(),
  state: Type.String(),
  /** How the reason in `/readyz` begins, after the broker's address; `ready` for a service that is. */
  says: Type.String(),
  /** Services that said so. */
  services: Type.Array(Type.String()),
})

const MissingAcl = Type.Object({
  service: Type.String(),
  /** As {@link inWords}. */
  acl: Type.String(),
  /** What became of the service while it was missing. */
  effect: Type.String(),
  /** Where it is named. */
  named: Type.String(),
})

const Rotation = Type.Object({
  mechanism: Type.String(),
  what: Type.String(),
  sent: Type.Integer(),
  lost: Type.Integer(),
  twice: Type.Integer(),
  /** The longest time without an answer 202, and without an outcome, in ms. */
  longestPauseMs: Type.Object({ producer: Type.Integer(), consumer: Type.Integer() }),
})

const Seen = Type.Object({
  refusals: Type.Array(Refusal),
  missing: Type.Array(MissingAcl),
  rotations: Type.Array(Rotation),
})

/** "read topic kt.*" */
export const inWords = ({ operation, resource, name, pattern }: Omit<SingleAcl, 'principal'>): string =>
  `${operation} ${resource} ${name}${pattern === 'prefixed' ? '*' : ''}`

export type Refusal = Static<typeof Refusal>
export type MissingAcl = Static<typeof MissingAcl>
export type Rotation = Static<typeof Rotation>
export type Seen = Static<typeof Seen>

const FILE = join(import.meta.dir, '..', '..', 'bench', 'secured', 'seen.json')

/** `SECURED=complete`: every cell is tried, and written down. Else some are, and compared with what is written. */
export const isComplete = process.env['SECURED'] === 'complete'

/** What was seen before. @throws Error when the file is no such data */
export async function readSeen(): Promise<Seen> {
  const file = Bun.file(FILE)
  if (!(await file.exists())) return { refusals: [], missing: [], rotations: [] }
  const seen: unknown = await file.json()
  if (!Value.Check(Seen, seen)) throw new Error(`${FILE} is not what the tests write: SECURED=complete writes it anew`)
  return seen
}

/**
 * Writes down a part of what was seen, or compares it with what is written.
 * @param of.owns which rows of the part are this test's: all others stay
 * @param of.same what of a row does not change from run to run
 * @throws Error with the rows that are not written, or are written otherwise
 */
export async function record<Part extends keyof Seen>(
  part: Part,
  rows: Seen[Part],
  of: { owns?: (row: Seen[Part][number]) => boolean; same: (row: Seen[Part][number]) => unknown },
): Promise<void> {
  const seen = await readSeen()
  const { owns = () => true, same } = of
  if (isComplete) {
    const others = seen[part].filter((row) => !owns(row))
    await Bun.write(FILE, `${JSON.stringify({ ...seen, [part]: [...others, ...rows] }, undefined, 2)}\n`)
    return
  }
  const written = new Set(seen[part].map((row) => JSON.stringify(same(row))))
  const missing = rows.map((row) => JSON.stringify(same(row))).filter((row) => !written.has(row))
  if (missing.length > 0)
    throw new Error(
      `seen, and not in ${FILE} (SECURED=complete bun run test --e2e bench/secured, then bun run generate):\n${missing.join('\n')}`,
    )
}

/** How many services there are: where all said the same, they are not named. */
const SERVICES = 3

/** The cell of a state that a mechanism does not have. */
const NOT_THERE = '–'

/** The tables of docs/security.md. */
export function seenMarkdown({ refusals, missing, rotations }: Seen): string {
  const states = Object.entries(STATES)
  const said = (mechanism: Mechanism, state: string): string => {
    const found = refusals.find((one) => one.mechanism === mechanism && one.state === state)
    if (found === undefined) return NOT_THERE
    const text = found.says === 'ready' ? 'ready' : `“${found.says}”`
    return found.services.length === SERVICES ? text : `${text} (${found.services.join(', ')})`
  }
  const matrix = MECHANISMS.map(
    (mechanism) => `| ${mechanism} | ${states.map(([state]) => said(mechanism, state)).join(' | ')} |\n`,
  )
  const acls = missing.map(({ service, acl, effect, named }) => `| ${service} | ${acl} | ${effect} | ${named} |\n`)
  const rotated = rotations.map(
    ({ mechanism, what, sent, lost, twice, longestPauseMs: { producer, consumer } }) =>
      `| ${mechanism} | ${what} | ${sent} | ${lost} | ${twice} | ${seconds(producer)} | ${seconds(consumer)} |\n`,
  )
  const table = (heads: readonly string[], rows: readonly string[]): string =>
    rows.length === 0 ? '' : `| ${heads.join(' | ')} |\n|${'---|'.repeat(heads.length)}\n${rows.join('')}`
  return [
    table(['mechanism', ...states.map(([, title]) => title)], matrix),
    table(['service', 'without', 'what happens', 'where it is named'], acls),
    table(
      [
        'mechanism',
        'rotated while running',
        'events sent',
        'lost',
        'twice',
        'longest pause of the producer',
        '… of the consumer',
      ],
      rotated,
    ),
  ]
    .filter((text) => text !== '')
    .join('\n')
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`
