import { describe, expect, test } from 'bun:test'
import type { IncomingRecord } from '../../shared/events/record.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import type { Acts, Decision } from './acts.ts'
import { ActsState } from './acts-log.ts'
import { actOnOne } from './jobs.ts'
import type { Readers } from './readers.ts'

const EVENT = { ce_specversion: '1.0', ce_id: '1', ce_source: '/s', ce_type: 't' }

const record = (topic: string, headers: Record<string, string>, value: Buffer | null): IncomingRecord => ({
  topic,
  partition: 0,
  offset: 0,
  timestampMs: 0,
  key: null,
  value,
  headers: { names: Object.keys(headers), values: Object.values(headers) },
})

/** What a redrive writes, or the kind of the problem. */
async function redriven(letter: IncomingRecord, original = record('kt.t.s', EVENT, Buffer.from('1'))) {
  const decisions: Decision<unknown>[] = []
  const reader = {
    read: async (_ranges: unknown, onRecord: (one: IncomingRecord) => void) => onRecord(original),
  } as unknown as RangeReader
  const readers = {
    use: (_signal: AbortSignal, work: (one: RangeReader) => unknown) => work(reader),
    bounds: async ([at]: { partition: number }[]) => {
      if ((at?.partition ?? 0) > 0) throw new Error('no such partition')
      return [{ from: 0, to: 1 }]
    },
  } as unknown as Readers
  const acts = {
    of: () => ({
      perform: async (decide: (state: ActsState) => Promise<Decision<unknown>>) => {
        const decision = await decide(new ActsState())
        decisions.push(decision)
        return decision.result
      },
    }),
  } as unknown as Acts
  const stream = { tenant: 't', name: 's', input: 'kt.t.s', partitions: 1, redact: [] }
  const deps = { acts, readers, nowMs: () => 0, signal: new AbortController().signal, onActed: () => undefined }
  try {
    await actOnOne('redrive', stream, letter, { by: 'a', reason: undefined }, undefined, {
      ...deps,
      onFault: () => undefined,
      log: undefined as never,
    })
  } catch (error) {
    if (error instanceof ProblemError) return error.problem.kind
    throw error
  }
  return String(decisions[0]?.records[0]?.value)
}

const dead = (headers: Record<string, string>, value: Buffer | null = Buffer.from('2')) =>
  record('kt.t.s.dlq', { ...EVENT, ...headers }, value)

test('a letter of the last generation is not redriven, since it would count as the event itself', async () => {
  expect(await redriven(dead({ 'kt-generation': '2147483646' }))).toBe('2')
  expect(await redriven(dead({ 'kt-generation': '2147483647' }))).toBe('conflict')
})

describe('a letter without its value', () => {
  const withOrigin = (origin: string) =>
    dead({ 'kt-error': '{"reason":"result too large","message":""}', 'kt-origin': origin }, null)

  test('is redriven from its original', async () => {
    expect(await redriven(withOrigin('kt.t.s/0/0'))).toBe('1')
  })

  test('is not redriven from another event, topic, or a partition that is none', async () => {
    const other = record('kt.t.s', { ...EVENT, ce_id: '2' }, Buffer.from('1'))
    expect(await redriven(withOrigin('kt.t.s/0/0'), other)).toBe('conflict')
    for (const origin of ['kt.other.s/0/0', 'kt.t.s.dlq/0/0', 'kt.t.s/999999999/0', 'kt.t.s/0/7', ''])
      expect(await redriven(withOrigin(origin))).toBe('conflict')
  })
})
