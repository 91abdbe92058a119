import { afterAll, describe, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findFreePorts } from '../../shared/dev/brokers/ports.ts'
import { createTopicsAndWait } from '../../shared/dev/brokers/wire.ts'
import { testBrokers, uniqueName } from '../../shared/testing/brokers.ts'
import { kcatCommand } from '../../shared/testing/kcat.ts'
import { JAVASCRIPT_PEERS } from './peers-javascript.ts'

/** Those that are installed in seconds; the others keep the same contract by nearly the same program. */
const TESTED = ['hono-platformatic', 'fastify-kafkajs']

const directory = await mkdtemp(join(tmpdir(), 'kafkatrace-peers-'))
afterAll(() => rm(directory, { recursive: true, force: true }))

describe.each(JAVASCRIPT_PEERS.filter(({ facts }) => TESTED.includes(facts.name)))('$facts.name', (peer) => {
  test('answers 202 once events are stored, 4xx with the faults of invalid ones, and then stores nothing', async () => {
    await peer.prepare((progress) => void process.stderr.write(`${progress}\n`))
    const topic = uniqueName('peer')
    const [address = ''] = testBrokers().split(',')
    await createTopicsAndWait(address, [topic], 1)
    const [port = 0] = await findFreePorts(1)
    const running = await peer.start({ brokers: testBrokers(), topic, port, directory })
    const post = (body: unknown) =>
      fetch(running.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      })
    try {
      const single = await post({ id: 'one', type: 'a', source: '/shop', subject: 'key', data: { n: [1, 'ü'] } })
      expect(single.status).toBe(202)
      expect(await single.json()).toEqual({ receipts: [{ id: 'one', partition: 0, offset: 0 }] })
      const several = await post([{ type: 'b', time: '2026-01-31T23:59:59.5Z', data: null }, { type: 'c' }])
      expect(several.status).toBe(202)
      const { receipts } = (await several.json()) as { receipts: { id: string; partition: number; offset: number }[] }
      expect(receipts).toEqual([
        { id: expect.stringMatching(/^[0-9a-f-]{36}$/), partition: 0, offset: 1 },
        { id: expect.stringMatching(/^[0-9a-f-]{36}$/), partition: 0, offset: 2 },
      ])
      const together = await Promise.all(Array.from({ length: 20 }, (_, index) => post({ type: 'd', id: `d${index}` })))
      expect(new Set(together.map(({ status }) => status))).toEqual(new Set([202]))

      const faulty = [{ type: '' }, {}, { type: 3 }, { type: 'a', id: '' }, { type: 'a', source: '' }]
      const others = [{ type: 'a', subject: '' }, { type: 'a', time: 'yesterday' }, [], 5, '{"type":']
      for (const wrong of [...faulty, ...others, [{ type: 'fine' }, { type: '' }]]) {
        const { status } = await post(wrong)
        expect({ wrong, refused: status === 400 || status === 422 }).toEqual({ wrong, refused: true })
      }
      expect(await (await post([{ type: 'fine' }, { type: '' }])).text()).toContain('1/type')

      const stored = readTopic(topic)
      expect(stored.map(({ id }) => id).sort()).toEqual(
        ['one', ...receipts.map(({ id }) => id), ...together.map((_, index) => `d${index}`)].sort(),
      )
      const { time, ...first } = stored[0] as Stored
      expect(first).toEqual({
        id: 'one',
        key: 'key',
        value: '{"n":[1,"ü"]}',
        headers: 'ce_specversion=1.0,ce_id=one,ce_source=/shop,ce_type=a',
      })
      expect(Date.now() - Date.parse(time)).toBeWithin(0, 60_000)
      expect(stored[1]).toMatchObject({ key: '', value: 'null', time: '2026-01-31T23:59:59.5Z' })
    } finally {
      await running.stop()
    }
  })
})

interface Stored {
  id: string
  key: string
  value: string
  /** Up to the time. */
  headers: string
  time: string
}

/** As kcat, which is nobody's client here, reads the topic. */
function readTopic(topic: string): Stored[] {
  const options = ['-C', '-b', testBrokers(), '-t', topic, '-o', 'beginning', '-e', '-q', '-f', '%k\\t%s\\t%h\\n']
  const { stdout } = Bun.spawnSync([kcatCommand(), ...options], { stdin: 'ignore' })
  return stdout
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [key = '', value = '', all = ''] = line.split('\t')
      const [, headers = '', id = '', time = ''] =
        /^(ce_specversion=.*ce_id=([^,]*).*),ce_time=([^,]*),content-type=application\/json$/.exec(all) ?? []
      return { id, key, value, headers, time }
    })
}
