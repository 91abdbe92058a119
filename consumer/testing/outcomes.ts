import { expect } from 'bun:test'
import { headerText } from '../../shared/events/headers.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import type { Failure } from '../retry.ts'
import { type Behaviour, behaviours, idOf } from './behaviours.ts'

/** The outcome of an event. */
export interface Found {
  processed: readonly IncomingRecord[]
  dead: readonly IncomingRecord[]
}

/** The outcomes of events, by id. */
export function outcomesById(records: readonly IncomingRecord[]): Map<string, Found> {
  const found = new Map<string, { processed: IncomingRecord[]; dead: IncomingRecord[] }>()
  for (const record of records) {
    const id = headerText(record.headers, 'ce_id') ?? ''
    const one = found.get(id) ?? { processed: [], dead: [] }
    found.set(id, one)
    one[record.topic.endsWith('.dlq') ? 'dead' : 'processed'].push(record)
  }
  return found
}

/** Checks the outcomes of a behaviour's event and of the event after it. */
export function expectOutcome(index: number, tenant: string, found: ReadonlyMap<string, Found>): void {
  const { becomes } = behaviours[index] as Behaviour
  const { processed, dead } = found.get(idOf(`b.${index}`, index)) ?? { processed: [], dead: [] }
  expect([processed.length, dead.length]).toEqual('dead' in becomes ? [0, 1] : [1, 0])
  const behind = found.get(idOf('plain', index))
  expect([behind?.processed.length, behind?.dead.length]).toEqual([1, 0])
  const [record] = [...processed, ...dead] as [IncomingRecord]
  const header = (headerName: string) => headerText(record.headers, headerName)
  if ('dead' in becomes) {
    const failure = JSON.parse(header('kt-error') ?? '') as Failure
    expect(failure.reason).toBe(becomes.dead)
    expect(failure.message).toContain(becomes.says ?? '')
    expect(failure.message.length).toBeLessThan(600)
    if (becomes.attempts !== undefined) expect(header('kt-attempt')).toBe(String(becomes.attempts))
    // The input, byte for byte.
    expect(record.value?.toString()).toBe(JSON.stringify({ id: index }))
    expect([header('ce_source'), header('ce_type'), header('ce_ext'), header('ce_more')]).toEqual([
      '/test',
      `b.${index}`,
      'x',
      undefined,
    ])
  } else {
    expect(record.value?.toString()).toBe(becomes.data)
    expect(header('ce_type')).toBe(becomes.type ?? `b.${index}`)
    expect(JSON.parse(header('kt-context') ?? '')).toMatchObject({ tenant, handler: `b.${index}@1` })
  }
}
