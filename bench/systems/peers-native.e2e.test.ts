import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findFreePorts } from '../../shared/dev/brokers/ports.ts'
import { createTopicsAndWait } from '../../shared/dev/brokers/wire.ts'
import { UnavailableError } from '../../shared/dev/built.ts'
import { testBrokers, uniqueName } from '../../shared/testing/brokers.ts'
import { scanTopic } from '../scan.ts'
import { NATIVE_PEERS } from './peers-native.ts'
import type { RunningSystem, System } from './system.ts'

/** Benthos has more than a hundred modules; the plain peer keeps the same contract, and both are built by the same steps. */
const peer = NATIVE_PEERS.find(({ facts }) => facts.name === 'go-franz') as System

const BUILD_TIMEOUT_MS = 300_000
const directory = await mkdtemp(join(tmpdir(), 'kafkatrace-peers-'))
const topic = uniqueName('peer')
let running: RunningSystem | undefined

beforeAll(async () => {
  try {
    await peer.prepare((progress) => void process.stderr.write(`${progress}\n`))
  } catch (error) {
    if (!(error instanceof UnavailableError) || Bun.which('go') !== null) throw error
    process.stderr.write(`the Go peers are not tested here: ${error.message}\n`)
    return
  }
  const [address = ''] = testBrokers().split(',')
  await createTopicsAndWait(address, [topic], 1)
  const [port = 0] = await findFreePorts(1)
  running = await peer.start({ brokers: testBrokers(), topic, port, directory })
}, BUILD_TIMEOUT_MS)

afterAll(async () => {
  await running?.stop()
  await rm(directory, { recursive: true, force: true })
})

const post = (body: unknown) =>
  fetch(running?.url ?? '', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })

test('the Go peer answers 202 once events are stored, 422 with the faults of invalid ones, and then stores nothing', async () => {
  if (running === undefined) return
  const stored = await post([
    { id: 'one', type: 'a', subject: 'key', data: { n: 1 } },
    { type: 'b', time: '2026-01-31T23:59:59.5Z', data: null },
  ])
  expect(stored.status).toBe(202)
  const { receipts } = (await stored.json()) as { receipts: { id: string; partition: number; offset: number }[] }
  expect(receipts).toEqual([
    { id: 'one', partition: 0, offset: 0 },
    { id: expect.stringMatching(/^[0-9a-f-]{36}$/), partition: 0, offset: 1 },
  ])
  const refused = await post([{ type: 'fine' }, { type: '', id: '', source: '', subject: '', time: 'yesterday' }])
  expect(refused.status).toBe(422)
  const { faults } = (await refused.json()) as { faults: { pointer: string }[] }
  expect(faults.map(({ pointer }) => pointer)).toEqual(['/1/type', '/1/id', '/1/source', '/1/subject', '/1/time'])
  for (const wrong of ['{"type":', '[]', '5', { type: 3 }]) expect((await post(wrong)).status).toBe(422)
  expect((await scanTopic(testBrokers(), topic)).ids).toEqual(receipts.map(({ id }) => id))
})
