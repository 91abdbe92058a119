import { expect, test } from 'bun:test'
import { ACCEPTED, modeOf } from './media-type.ts'

test.each(['application/x-ndjson', 'application/ndjson', 'application/jsonl', 'Application/JSONL; charset=utf-8'])(
  '%s is a stream of lines',
  (type) => {
    expect(modeOf(type, false)).toEqual({ ok: true, mode: 'ndjson' })
    expect(ACCEPTED).toContain(type.toLowerCase().split(';')[0] as string)
  },
)
