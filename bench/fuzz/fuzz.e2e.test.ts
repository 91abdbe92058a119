import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ServiceProcess } from '../../shared/testing/service-process.ts'
import { savedInputs } from './corpus.ts'
import { fuzzRecords } from './record-run.ts'
import { fuzzRequests } from './request-run.ts'
import { type Rig, startRig } from './rig.ts'

/** A short run on every change; the nightly workflow runs a hundred thousand inputs with other seeds. */

const INPUTS = 2_000
const SEED = 1

setDefaultTimeout(300_000)

let rig: Rig
let corpus: string

beforeAll(async () => {
  corpus = await mkdtemp(join(tmpdir(), 'kafkatrace-corpus-'))
  rig = await startRig(() => undefined)
})
afterAll(async () => {
  await rig?.stop()
  await rm(corpus, { recursive: true })
})

const say = (text: string): void => console.log(text)

test(`of ${INPUTS} odd requests each is answered or closed, and what was answered is true`, async () => {
  const { found, inputs } = await fuzzRequests(rig, { seed: SEED, inputs: INPUTS, say })
  expect(found).toEqual([])
  expect(inputs).toBe(INPUTS)
})

test(`of ${INPUTS} odd records none stops its partition, and each event has one outcome`, async () => {
  const { found, inputs } = await fuzzRecords(rig, { seed: SEED, inputs: INPUTS, say })
  expect(found).toEqual([])
  expect(inputs).toBeGreaterThanOrEqual(INPUTS)
})

test('a fault is found, made small, and kept', async () => {
  // Stands in for a producer with a fault: it fails for any request with a backslash in it, and answers every other truthfully.
  const faulty = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    idleTimeout: 2,
    async fetch(request) {
      const isBad = (await request.text()).includes('\\') || request.url.includes('\\')
      return new Response(null, { status: isBad ? 500 : 400, headers: { connection: 'close' } })
    },
  })
  const producer: ServiceProcess = {
    ...rig.producer(),
    started: { port: faulty.port, opsPort: faulty.port },
    running: () => true,
  }
  try {
    const options = { seed: SEED, inputs: INPUTS, say, corpus }
    const { found } = await fuzzRequests({ ...rig, producer: () => producer }, options)
    expect(found.map(({ what }) => what)).toContainEqual(expect.stringMatching(/was answered 500.*bytes do so/))
    const [file = ''] = await readdir(join(corpus, 'requests'))
    const [saved] = savedInputs<{ bytes: string }>('requests', corpus)
    expect(file).toBe(saved?.name ?? '')
    expect(saved?.saved.why).toBe('was answered 500')
    const { bytes = '' } = saved?.saved.input ?? {}
    expect(bytes).toContain('\\')
    expect(bytes.length).toBeLessThan(100)
  } finally {
    await faulty.stop(true)
  }
})
