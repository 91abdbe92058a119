import { ALWAYS, SOMETIMES } from './kinds.ts'
import { type LoadOptions, PATIENT_MS, PLAIN } from './load.ts'
import type { Cut } from './network.ts'
import { DEFAULT_TIMES, type Fault, GROUP, PARTITIONS, type Stage } from './stage.ts'

/** Brokers that go away and come back, as in a production cluster. */

/** A steady stream of events, some of them slow. The fault does not depend on what the services are doing. */
const LOAD: Partial<LoadOptions> = {
  eventsPerSecond: 200,
  kinds: [{ ...PLAIN, weight: 60 }, SOMETIMES, { ...ALWAYS, weight: 0.3 }],
  timeoutMs: PATIENT_MS,
}

/** A random node among those that matter to the services. */
async function nodeThatMatters(stage: Stage): Promise<{ node: number; role: string }> {
  const kafka = stage.kafka()
  const partition = stage.random.integer(0, PARTITIONS - 1)
  const role = stage.random.pick([
    'group coordinator',
    'transaction coordinator',
    'leader of events',
    'leader of outcomes',
  ])
  switch (role) {
    case 'group coordinator':
      return { node: await kafka.coordinatorOf('group', GROUP), role }
    case 'transaction coordinator':
      return { node: await kafka.coordinatorOf('transaction', `${GROUP}-${stage.consumer.name}`), role }
    case 'leader of events':
      return { node: await kafka.leaderOf(stage.topic, partition), role }
    default:
      return { node: await kafka.leaderOf(`${stage.topic}.processed`, partition), role }
  }
}

/** Which service is stopped while a broker is away: one of them in every second round, in turn. */
function stoppedIn(stage: Stage, round: number): Stage['consumer'] | undefined {
  return [undefined, stage.consumer, undefined, stage.producer][round % 4]
}

/**
 * Takes something away for a while. In some rounds a service is stopped in the meantime, and restarted when everything is back.
 * @param round counted from 0
 */
async function away(
  stage: Stage,
  round: number,
  what: string,
  lastsMs: readonly [least: number, most: number],
  back: () => Promise<void> | void,
): Promise<void> {
  const stopped = stoppedIn(stage, round)
  const stopping = stopped === undefined ? undefined : stage.stop(stopped)
  await stage.pause(...lastsMs)
  await back()
  await stopping
  if (stopped !== undefined) {
    stage.did(`${stopped.name} stopped meanwhile`)
    stopped.start()
  }
  // A consumer stopped without its coordinator could not leave the group.
  await stage.recovered(what, stopped === stage.consumer ? 'session' : 'ordinary')
}

export const BROKER_FAULTS: readonly Fault[] = [
  {
    name: 'freeze-broker',
    what: 'a broker that coordinates or leads is frozen (SIGSTOP), longer than sessions last, and continues',
    env: DEFAULT_TIMES,
    async play(stage) {
      const load = stage.load(LOAD)
      for (let round = 0; round < (stage.short ? 2 : 20); round++) {
        await stage.pause(1_000, 3_000)
        const { node, role } = await nodeThatMatters(stage)
        stage.kafka().freeze(node)
        stage.did(`${role} frozen`)
        await away(stage, round, `${role} thawed`, stage.short ? [6_000, 6_000] : [15_000, 15_000], () =>
          stage.kafka().thaw(node),
        )
      }
      await load.stop()
    },
  },
  {
    name: 'roll-brokers',
    what: 'the brokers are stopped in good order and started again, one after the other',
    env: DEFAULT_TIMES,
    async play(stage) {
      const load = stage.load(LOAD)
      let round = 0
      for (let roll = 0; roll < (stage.short ? 1 : 10); roll++) {
        for (let node = 0; node < stage.kafka().nodeCount; node++) {
          await stage.pause(500, 2_000)
          await stage.kafka().leave(node)
          stage.did('broker left')
          await away(stage, round++, 'broker started', [0, 1_000], () => stage.kafka().restart(node))
          await stage.kafka().inSync()
        }
      }
      await load.stop()
    },
  },
  {
    name: 'lose-majority',
    what: 'two of three brokers are away at once, killed or frozen: nothing is acknowledged, requests are refused, and everything continues afterwards',
    nodes: 3,
    env: DEFAULT_TIMES,
    async play(stage) {
      const load = stage.load(LOAD)
      const kafka = stage.kafka()
      for (let round = 0; round < (stage.short ? 1 : 6); round++) {
        await stage.pause(1_000, 3_000)
        const survivor = stage.anyNode()
        const lost = [0, 1, 2].filter((node) => node !== survivor)
        const frozen = stage.random.chance(0.5)
        for (const node of lost) {
          if (frozen) kafka.freeze(node)
          else await kafka.kill(node)
        }
        stage.did(frozen ? 'two brokers frozen' : 'two brokers killed')
        // By then the cut-off broker cannot reach any other.
        await stage.pause(1_000, 1_000)
        const before = { sent: stage.ledger.size, refused: load.facts.statuses[503] ?? 0 }
        await away(stage, round, 'two brokers back', [stage.short ? 10_000 : 13_000, 13_000], async () => {
          const since = stage.ledger.entries().slice(before.sent)
          const acknowledged = since.filter(({ answers }) => answers.some((one) => one.kind === 'acknowledged')).length
          const refused = (load.facts.statuses[503] ?? 0) - before.refused
          if (acknowledged > 0) stage.wrong(`${acknowledged} events were acknowledged by one broker of three`)
          if (refused === 0 && stage.producer.running())
            stage.wrong('no request was answered by 503 while two of three brokers were away')
          if (frozen) for (const node of lost) kafka.thaw(node)
          else await Promise.all(lost.map((node) => kafka.restart(node)))
        })
        await kafka.inSync()
      }
      await load.stop()
    },
  },
  {
    name: 'partition-network',
    what: 'a broker that coordinates or leads is cut off from its clients, from the other brokers, or from both, and joined again',
    nodes: 3,
    network: true,
    env: DEFAULT_TIMES,
    async play(stage) {
      const load = stage.load(LOAD)
      const cuts: Cut[] = ['clients', 'peers', 'both']
      for (let round = 0; round < (stage.short ? 3 : 12); round++) {
        await stage.pause(1_000, 3_000)
        const { node, role } = await nodeThatMatters(stage)
        const from = cuts[round % cuts.length] as Cut
        await stage.network().cut(node, from)
        stage.did(`${role} cut off from ${from}`)
        await away(stage, round, `${role} joined again`, stage.short ? [5_000, 5_000] : [10_000, 20_000], () =>
          stage.network().heal(node),
        )
        await stage.kafka().inSync()
      }
      await load.stop()
    },
  },
]
