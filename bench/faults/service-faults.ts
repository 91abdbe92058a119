import type { Service } from '../../shared/testing/services.ts'
import { createKeepAliveClient } from './keep-alive.ts'
import { kind, SLOW, SOMETIMES } from './kinds.ts'
import { PLAIN } from './load.ts'
import { sampleMemory } from './memory.ts'
import type { Fault, Stage } from './stage.ts'

/** Services that freeze and continue, are replaced, or have to catch up. */

const MB = 1024 * 1024
/** The limit for the consumer's memory from its start on, whatever its handlers do. */
const CONSUMER_LIMIT_BYTES = 250 * MB
const MEMORY_INTERVAL_MS = 100
const CATCH_UP_TIMEOUT_MS = 120_000

export async function killAndRestart(stage: Stage, service: Service, what: string): Promise<void> {
  await service.kill()
  stage.did(`${what} killed`)
  await stage.pause(0, 300)
  service.start()
}

export async function restartBroker(stage: Stage): Promise<void> {
  const node = stage.anyNode()
  await stage.kafka().kill(node)
  stage.did('broker killed')
  await stage.pause(100, 1_500)
  await stage.kafka().restart(node)
}

export const SERVICE_FAULTS: readonly Fault[] = [
  {
    name: 'freeze-consumer',
    what: 'one of two consumers is frozen (SIGSTOP) until its session is over and the other has its partitions, and then continues',
    async play(stage) {
      const load = stage.load({ kinds: [{ ...PLAIN, weight: 20 }, SOMETIMES, SLOW], eventsPerSecond: 300 })
      const other = await stage.addConsumer()
      other.start()
      await other.ready()
      for (let round = 0; round < (stage.short ? 2 : 10); round++) {
        await stage.pause(500, 2_000)
        const victim = stage.random.pick([stage.consumer, other])
        victim.freeze()
        stage.did('consumer frozen')
        // Longer than its session, and in some rounds longer than the time-out of its open transaction.
        await stage.pause(2_000, 8_000)
        await stage.recovered('consumer frozen', 'session')
        victim.thaw()
        await stage.recovered('consumer thawed', 'ordinary')
      }
      await load.stop()
    },
  },
  {
    name: 'freeze-producer',
    what: 'the producer is frozen (SIGSTOP), for less and for more than a delivery may take, and continues',
    async play(stage) {
      const load = stage.load({ eventsPerSecond: 300 })
      for (let round = 0; round < (stage.short ? 2 : 10); round++) {
        await stage.pause(500, 2_000)
        stage.producer.freeze()
        stage.did('producer frozen')
        await stage.pause(500, stage.short ? 5_000 : 12_000)
        stage.producer.thaw()
        await stage.recovered('producer thawed', 'ordinary')
      }
      await load.stop()
    },
  },
  {
    name: 'rolling-update',
    what: 'two producers on one port and two consumers are replaced in turn under load: no request fails, none has to be sent again',
    env: { producer: { REUSE_PORT: 'on' } },
    async play(stage) {
      const client = createKeepAliveClient()
      let [one, two, spare] = [stage.producer, await stage.addProducer(), await stage.addProducer()]
      two.start()
      await two.ready()
      const consumers = [stage.consumer, await stage.addConsumer()]
      consumers[1]?.start()
      await consumers[1]?.ready()
      const load = stage.load({ eventsPerSecond: 300, repeatedAnyway: 0, post: client.post })
      const end = async (service: Service): Promise<void> => {
        const { code, seconds } = await stage.stop(service)
        stage.did(`${service.name.replace(/-\d+$/, '')} replaced`)
        if (code !== 0) stage.wrong(`${service.name} ended with ${code} after ${seconds.toFixed(1)} s`)
      }
      for (let round = 0; round < (stage.short ? 2 : 10); round++) {
        await stage.pause(500, 1_500)
        // The new one serves before the old one stops.
        spare.start()
        await spare.ready()
        await end(one)
        ;[one, two, spare] = [two, spare, one]
        const consumer = consumers[round % 2] as Service
        await end(consumer)
        consumer.start()
        await consumer.ready()
      }
      await stage.recovered('everything replaced', 'ordinary')
      await load.stop()
      client.close()
      const { statuses, refusals, repeated, requests } = load.facts
      for (const [status, count] of Object.entries(statuses))
        if (Number(status) < 200 || Number(status) >= 500)
          stage.wrong(`${count} of ${requests} requests: status ${status}: ${refusals[Number(status)]}`)
      if (repeated > 0) stage.wrong(`requests that had to be sent again: ${repeated}`)
      const failures = Map.groupBy(client.facts.failures, (why) => why)
      for (const [why, all] of failures) stage.wrong(`connections: ${why}, ${all.length} times`)
    },
  },
  {
    name: 'backlog',
    what: `events gather while the consumer is away, and fast handlers work them off: it never takes more than ${CONSUMER_LIMIT_BYTES / MB} MB`,
    async play(stage) {
      const { consumer, ledger } = stage
      await stage.stop(consumer)
      const load = stage.load({
        kinds: [kind('slow', 'processed', 1, () => ({ failures: 0, workMs: 3 }))],
        eventsPerSecond: 3_000,
        keys: 5_000,
        wrong: 0,
      })
      // Enough to fill every stage of the consumer and its client's prefetch queue.
      await stage.pause(20_000, 20_000)
      await load.stop()
      const { acknowledged } = ledger.answers()
      consumer.start()
      const sampling = sampleMemory([consumer.pid()], MEMORY_INTERVAL_MS)
      await consumer.ready()
      const deadlineMs = performance.now() + CATCH_UP_TIMEOUT_MS
      while ((await consumer.metric('kafkatrace_consumer_events_total')) < acknowledged) {
        if (performance.now() > deadlineMs) throw new Error(`${acknowledged} events were not worked off in time`)
        await stage.pause(500, 500)
      }
      sampling.stop()
      const peakMb = Math.round(Math.max(...(sampling.samples[0] ?? [])) / MB)
      stage.did(`${acknowledged} events worked off in ${peakMb} MB at most`)
      if (peakMb * MB > CONSUMER_LIMIT_BYTES)
        stage.wrong(`the consumer took ${peakMb} MB; the limit is ${CONSUMER_LIMIT_BYTES / MB} MB`)
    },
  },
]
