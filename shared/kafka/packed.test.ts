import { describe, expect, test } from 'bun:test'
import { isUtf8 } from 'node:buffer'
import fc from 'fast-check'
import { type HeaderValue, headersOf, NO_HEADERS, TRANSACTION, withHeaders } from '../events/headers.ts'
import type { IncomingRecord, OutgoingRecord, PassedRecord } from '../events/record.ts'
import type { PackedAddon } from './addon.ts'
import type { Consumer, Producer } from './client.ts'
import { hashOf, SEEDS } from './identity-hash.ts'
import {
  Batch,
  BatchBuffers,
  consumeIdentities,
  consumePacked,
  declareNames,
  FORMAT,
  type Interruption,
  isNotQueued,
  PASSED_OVER,
  Packer,
  packFilter,
  packProducer,
  type Report,
  unpack,
} from './packed.ts'

/* The formats as native/shim/packed.cc describes them, read and written here by other means than packed.ts. */

/** The addon, as far as a test replaces it; calls of anything else fail. */
const addonOf = (parts: Partial<Record<keyof PackedAddon, unknown>>): PackedAddon => parts as unknown as PackedAddon

const NAMES = ((): readonly string[] => {
  let declared: readonly string[] = []
  declareNames(
    addonOf({
      names: (list: readonly string[]) => {
        declared = list
      },
    }),
  )
  return declared
})()

/** Numbers topics as the addon does, in the order in which they are asked for. */
function numbering() {
  const asked: string[] = []
  return { asked, addon: addonOf({ topic: (name: string) => asked.push(name) - 1 }) }
}

// ---- outgoing

interface Unpacked {
  sequence: number
  topic: number
  partition: number
  key: Buffer | null
  value: Buffer | null
  headers: { place?: number; name: string; value: Buffer | null }[]
}

/** A record that is passed on, with what it refers to. */
interface Passing {
  sequence: number
  topic: number
  partition: number
  batch: Buffer
  at: number
  tenant: string
  context: string
  contextEnd: string
  type: string | undefined
  result: string | undefined
}

const found = <T>(list: readonly T[], index: number): T => {
  const one = list[index]
  if (one === undefined) throw new Error(`there is no ${index} of ${list.length}`)
  return one
}

/** Reads what is packed. Throws where a record ends elsewhere than it says, or does not begin at a multiple of 4. */
function allUnpacked({ packed: { bytes, length, texts, batches } }: Packer): (Unpacked | Passing)[] {
  const records: (Unpacked | Passing)[] = []
  if (bytes.readInt32LE(0) !== FORMAT) throw new Error('another format')
  for (let begin = 8; begin < length; ) {
    let at = begin
    const int = (): number => {
      at += 4
      return bytes.readInt32LE(at - 4)
    }
    const size = int()
    const [sequence, topic, partition] = [int(), int(), int()]
    const keyBytes = int()
    if (keyBytes === -2) {
      const batch = found(batches, int())
      const passing = {
        sequence,
        topic,
        partition,
        batch,
        at: int(),
        tenant: found(texts, int()),
        context: found(texts, int()),
        contextEnd: found(texts, int()),
      }
      const [type, resultBytes] = [int(), int()]
      const result = resultBytes < 0 ? undefined : bytes.toString('utf8', at, at + resultBytes)
      at += Math.max(0, resultBytes)
      records.push({ ...passing, type: type < 0 ? undefined : found(texts, type), result })
      if (at - begin !== size) throw new Error(`the record says that it takes ${size} bytes, and takes ${at - begin}`)
      begin = Math.ceil(at / 4) * 4
      continue
    }
    const [valueBytes, count] = [int(), int()]
    const lengths = Array.from({ length: count }, () => [int(), int()] as const)
    const take = (taken: number): Buffer | null => {
      if (taken < 0) return null
      at += taken
      return Buffer.from(bytes.subarray(at - taken, at))
    }
    const key = take(keyBytes)
    const headers = lengths.map(([name, valueLength]) => {
      if (name >= 0) return { place: name, name: NAMES[name] ?? '', value: take(valueLength) }
      return { name: (take(~name) as Buffer).toString(), value: take(valueLength) }
    })
    const value = take(valueBytes)
    if (at - begin !== size) throw new Error(`the record says that it takes ${size} bytes, and takes ${at - begin}`)
    records.push({ sequence, topic, partition, key, value, headers })
    begin = Math.ceil(at / 4) * 4
    if (begin > length) throw new Error('the last record is longer than what is packed')
  }
  return records
}

/** Reads what is packed, of which nothing is passed on. */
function unpacked(packer: Packer): Unpacked[] {
  return allUnpacked(packer).map((one) => {
    if ('batch' in one) throw new Error('it is passed on')
    return one
  })
}

/** The header that all records get. */
function commonOf({ packed: { bytes, texts } }: Packer): { name: string; value: string } | undefined {
  const place = bytes.readInt32LE(4)
  return place === -1 ? undefined : { name: found(NAMES, place), value: found(texts, 0) }
}

const bytesOf = (value: HeaderValue): Buffer | null => (typeof value === 'string' ? Buffer.from(value, 'utf8') : value)

/** What the reader above is to find of a record that was the only one, or of the first topic. */
const expected = (record: OutgoingRecord, sequence: number): Unpacked => ({
  sequence,
  topic: 0,
  partition: record.partition ?? -1,
  key: bytesOf(record.key),
  value: record.value,
  headers: record.headers.names.map((name, index) => ({
    ...(NAMES.includes(name) ? { place: NAMES.indexOf(name) } : {}),
    name: Buffer.from(name).toString(),
    value: bytesOf(record.headers.values[index] ?? null),
  })),
})

const TOPIC = 'topic'
const record = (more: Partial<OutgoingRecord> = {}): OutgoingRecord => ({
  topic: TOPIC,
  key: null,
  value: null,
  headers: NO_HEADERS,
  ...more,
})

/** Packs these, alone, and reads them back. */
function packedAlone(...records: OutgoingRecord[]): Unpacked[] {
  const packer = new Packer(numbering().addon)
  for (const [index, one] of records.entries()) packer.add(one, index)
  return unpacked(packer)
}

/** Packing keeps every byte of these. */
function expectKept(...records: OutgoingRecord[]): void {
  expect(packedAlone(...records)).toEqual(records.map(expected))
}

/** Of one, two, three and four bytes a character, empty, and with a NUL. */
const TEXTS = [
  'ascii',
  '',
  'nul\0nul',
  'žluťoučký',
  '€uro',
  'ключ',
  '漢字',
  '🔑🐎',
  '\ufeffmarked',
  '\uffff',
  '\x7f\x80',
]

describe('outgoing records', () => {
  test('are packed as the format says', () => {
    const packer = new Packer(numbering().addon)
    packer.add(
      record({
        partition: 3,
        key: 'key',
        value: Buffer.from('value'),
        headers: headersOf({ own: null, ce_id: 'id' }),
      }),
      7,
    )
    const { bytes, length } = packer.packed
    const ce_id = NAMES.indexOf('ce_id')
    const ints = [FORMAT, -1, 57, 7, 0, 3, 3, 5, 2, ~3, -1, ce_id, 2]
    expect(Array.from(ints, (_, index) => bytes.readInt32LE(index * 4))).toEqual(ints)
    expect(bytes.toString('latin1', 52, 65)).toBe('keyownidvalue')
    expect(length).toBe(68)
  })

  test('keep texts of every kind, wherever they stand', () => {
    for (const text of TEXTS) {
      expectKept(record({ key: text }))
      expectKept(record({ key: text, headers: headersOf({ ce_id: text, ce_type: 'ascii' }) }))
      expectKept(record({ headers: headersOf({ [text]: 'value', [`${text}2`]: text }), value: Buffer.from(text) }))
      expectKept(record({ key: Buffer.from(text), headers: headersOf({ [text]: text, 'content-type': text }) }))
    }
  })

  test('keep what is empty apart from what is not there', () => {
    const empty = Buffer.alloc(0)
    expectKept(
      record(),
      record({ key: '', value: empty }),
      record({ key: empty, value: null }),
      record({ headers: headersOf({ own: '', ce_id: '', other: empty, tracestate: null, none: null, '': '' }) }),
    )
  })

  test('keep bytes that are no text, and views into larger buffers', () => {
    const whole = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
    const view = whole.subarray(100, 203)
    expectKept(record({ key: whole, value: view, headers: headersOf({ own: whole, ce_id: view, text: 'text' }) }))
    expectKept(record({ key: 'ascii', value: whole, headers: headersOf({ before: 'text', bytes: view }) }))
  })

  test('have U+FFFD for half of a surrogate pair, also where two halves meet', () => {
    const [high, low] = ['\ud83d', '\ude00']
    const [one] = packedAlone(
      record({ key: high, headers: headersOf({ ce_id: low, [high]: `a${high}`, ce_type: low }) }),
    )
    expect(String(one?.key)).toBe('\ufffd')
    expect(one?.headers.map(({ name, value }) => [name, String(value)])).toEqual([
      ['ce_id', '\ufffd'],
      ['\ufffd', 'a\ufffd'],
      ['ce_type', '\ufffd'],
    ])
  })

  test('name by its place each header that has one, and by its text any other', () => {
    const others = ['own', 'CE_ID', 'ce_id2', 'constructor', '__proto__', 'ключ']
    const names = [...NAMES, ...others]
    const [one] = packedAlone(record({ headers: { names, values: names.map(() => 'value') } }))
    expect(one?.headers.map(({ place, name }) => place ?? name)).toEqual([...NAMES.keys(), ...others])
  })

  test('keep the order and the repeats of their headers', () => {
    const headers = withHeaders(headersOf({ a: '1', ce_id: '2', b: '3' }), { ce_id: '4', a: '5' })
    expectKept(record({ headers }))
  })

  test('leave the partition open where none is named', () => {
    expect(packedAlone(record(), record({ partition: 0 })).map(({ partition }) => partition)).toEqual([-1, 0])
  })

  test('ask for the number of a topic once', () => {
    const { asked, addon } = numbering()
    const packer = new Packer(addon)
    for (const topic of ['a', 'b', 'a', 'b', 'c']) packer.add(record({ topic }), 0)
    packer.clear()
    packer.add(record({ topic: 'b' }), 0)
    expect(asked).toEqual(['a', 'b', 'c'])
    expect(unpacked(packer).map(({ topic }) => topic)).toEqual([1])
  })

  test('may be larger than the buffer, and those before them stay as they were', () => {
    const large = (size: number): Buffer => Buffer.alloc(size, 'large')
    const records = [
      record({ key: 'first' }),
      record({ value: large(300_000) }),
      record({ key: 'é'.repeat(50_000) }),
      record({ key: large(200_001), headers: headersOf({ own: '漢'.repeat(100_000) }) }),
      ...Array.from({ length: 5_000 }, (_, number) => record({ key: `key-${number}`, value: large(number % 300) })),
    ]
    expectKept(...records)
    // Texts that would fit into the first buffer if they were ASCII, and do not as UTF-8.
    for (const text of ['é'.repeat(40_000), '漢'.repeat(30_000), '🔑'.repeat(20_000)]) expectKept(record({ key: text }))
  })

  test('begin again in the same buffer after clearing, whatever was in it', () => {
    const packer = new Packer(numbering().addon)
    packer.add(record({ key: 'k'.repeat(500), value: Buffer.alloc(5_000, 'v'), headers: headersOf({ own: 'x' }) }), 1)
    const { bytes } = packer.packed
    packer.clear()
    expect(packer.isEmpty).toBe(true)
    expect(unpacked(packer)).toEqual([])
    const next = record({ headers: headersOf({ own: null, ce_id: '' }), value: Buffer.from('v') })
    packer.add(next, 2)
    expect(packer.packed.bytes).toBe(bytes)
    expect(unpacked(packer)).toEqual([expected(next, 2)])
  })

  test('give up a very large buffer once it is empty', () => {
    const packer = new Packer(numbering().addon)
    const large = record({ value: Buffer.alloc(5 * 2 ** 20, 'v') })
    packer.add(large, 1)
    expect(packer.packed.bytes.length).toBeGreaterThan(5 * 2 ** 20)
    packer.clear()
    expect(packer.packed.bytes.length).toBeLessThanOrEqual(2 ** 17)
    packer.add(large, 2)
    expect(unpacked(packer)).toEqual([expected(large, 2)])
  })

  test('that cannot be packed leave the others as they were', () => {
    const packer = new Packer(
      addonOf({
        topic: (name: string) => {
          if (name === 'faulty') throw new TypeError('no such topic')
          return 0
        },
      }),
    )
    const [first, second] = [record({ key: 'first' }), record({ key: 'second' })]
    packer.add(first, 0)
    expect(() => packer.add(record({ topic: 'faulty', value: Buffer.alloc(100_000) }), 1)).toThrow('no such topic')
    packer.add(second, 1)
    expect(unpacked(packer)).toEqual([expected(first, 0), expected(second, 1)])
  })

  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ unit: 'binary-ascii' }),
    fc.string({ unit: fc.constantFrom('a', 'é', '漢', '\ud83d', '\ude00') }),
  )
  const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array))
  const headers = fc.array(
    fc.tuple(fc.oneof(fc.constantFrom(...NAMES), text), fc.oneof(text, bytes, fc.constant(null))),
    { maxLength: 20 },
  )
  const records = fc
    .record({
      partition: fc.option(fc.nat(), { nil: undefined }),
      key: fc.oneof(text, bytes, fc.constant(null)),
      value: fc.option(bytes),
      headers,
    })
    .map(({ partition, key, value, headers: list }) =>
      record({
        ...(partition === undefined ? {} : { partition }),
        key,
        value,
        headers: { names: list.map(([name]) => name), values: list.map(([, one]) => one) },
      }),
    )

  test('keep every byte, whatever they are', () => {
    const packer = new Packer(numbering().addon)
    fc.assert(
      fc.property(fc.array(records), fc.integer(), (list, sequence) => {
        packer.clear()
        for (const [index, one] of list.entries()) packer.add(one, (sequence + index) | 0)
        expect(unpacked(packer)).toEqual(list.map((one, index) => expected(one, (sequence + index) | 0)))
      }),
      { numRuns: 100 },
    )
  })
})

describe('a header of all records', () => {
  test('is named once, and is not of records that are packed afterwards', () => {
    const packer = new Packer(numbering().addon)
    expect(commonOf(packer)).toBeUndefined()
    packer.common(TRANSACTION, 'group-0:1-7')
    const one = record({ key: 'key', headers: headersOf({ own: 'x' }) })
    packer.add(one, 3)
    expect(commonOf(packer)).toEqual({ name: TRANSACTION, value: 'group-0:1-7' })
    expect(unpacked(packer)).toEqual([expected(one, 3)])
    packer.clear()
    expect(packer.packed.texts).toEqual([])
    packer.add(one, 4)
    expect(commonOf(packer)).toBeUndefined()
    expect(unpacked(packer)).toEqual([expected(one, 4)])
  })

  test('keeps to the buffer that is given up once it is empty', () => {
    const packer = new Packer(numbering().addon)
    packer.common(TRANSACTION, 'first')
    packer.add(record({ value: Buffer.alloc(5 * 2 ** 20) }), 1)
    expect(commonOf(packer)).toEqual({ name: TRANSACTION, value: 'first' })
    packer.clear()
    expect(commonOf(packer)).toBeUndefined()
    packer.common(TRANSACTION, 'second')
    expect([commonOf(packer), packer.isEmpty]).toEqual([{ name: TRANSACTION, value: 'second' }, true])
  })
})

describe('records that are passed on', () => {
  const batchOf = (count: number): { bytes: Buffer; records: IncomingRecord[] } => {
    const bytes = packIncoming(Array.from({ length: count }, (_, partition) => incoming({ partition, plain: PLAIN })))
    return { bytes, records: readBatch(bytes) }
  }
  const pass = (passed: IncomingRecord | undefined, more: Partial<PassedRecord> = {}): PassedRecord => {
    if (passed === undefined) throw new Error('there is no such record')
    return { topic: TOPIC, passed, tenant: 'acme', contextStart: '{"tenant":"acme"', contextEnd: '', ...more }
  }

  test('are packed as the format says', () => {
    const { bytes, records } = batchOf(2)
    const packer = new Packer(numbering().addon)
    packer.common(TRANSACTION, 'name')
    packer.pass(pass(records[1]), 7)
    const { bytes: packed, length, texts, batches } = packer.packed
    const ints = [FORMAT, NAMES.indexOf(TRANSACTION), 48, 7, 0, 1, -2, 0, 8 + 80, 1, 2, 3, -1, -1]
    expect(Array.from(ints, (_, index) => packed.readInt32LE(index * 4))).toEqual(ints)
    expect([length, texts]).toEqual([56, ['name', 'acme', '{"tenant":"acme"', '']])
    expect(batches).toHaveLength(1)
    expect(batches[0]).toBe(bytes)
  })

  test('refer to their batch and to equal texts once, and to nothing after clearing', () => {
    const [one, other] = [batchOf(2), batchOf(1)]
    const packer = new Packer(numbering().addon)
    packer.pass(pass(one.records[0]), 0)
    packer.pass(pass(one.records[1], { topic: 'other', contextStart: '{"tenant":"b"', tenant: 'b' }), 1)
    packer.pass(pass(other.records[0]), 2)
    const acme = { partition: 0, tenant: 'acme', context: '{"tenant":"acme"', contextEnd: '' }
    const b = { partition: 1, tenant: 'b', context: '{"tenant":"b"', contextEnd: '' }
    const asItIs = { type: undefined, result: undefined }
    expect(allUnpacked(packer)).toEqual([
      { sequence: 0, topic: 0, batch: one.bytes, at: 8, ...acme, ...asItIs },
      { sequence: 1, topic: 1, batch: one.bytes, at: 88, ...b, ...asItIs },
      { sequence: 2, topic: 0, batch: other.bytes, at: 8, ...acme, ...asItIs },
    ])
    expect(packer.packed.batches).toHaveLength(2)
    expect(packer.packed.texts).toHaveLength(5)
    packer.clear()
    expect([packer.isEmpty, packer.packed.batches, packer.packed.texts]).toEqual([true, [], []])
    packer.pass(pass(other.records[0], { tenant: 'b' }), 3)
    expect(packer.packed.texts).toEqual(['b', '{"tenant":"acme"', ''])
    expect(allUnpacked(packer)).toMatchObject([{ sequence: 3, tenant: 'b', batch: other.bytes }])
  })

  test('have their results, of any length and in any alphabet', () => {
    const { records } = batchOf(1)
    const packer = new Packer(numbering().addon)
    const results = ['{}', '', '"…"', `"${'a'.repeat(70_001)}"`, `"${'ключ'.repeat(20_000)}"`, '"\ud83d\ude00"']
    for (const [index, data] of results.entries())
      packer.pass(pass(records[0], { contextEnd: ',"handler":"t@1"', result: { type: 'made', data } }), index)
    packer.pass(pass(records[0], { result: { type: undefined, data: '1' } }), 100)
    expect(allUnpacked(packer)).toMatchObject([
      ...results.map((result, sequence) => ({ sequence, type: 'made', result, contextEnd: ',"handler":"t@1"' })),
      { sequence: 100, type: undefined, result: '1', contextEnd: '' },
    ])
  })

  test('are packed between others, whatever the size of these', () => {
    const { bytes, records } = batchOf(1)
    const packer = new Packer(numbering().addon)
    const others = [1, 50_000, 200_003].map((size) =>
      record({ value: Buffer.alloc(size, 'v'), key: 'k'.repeat(size % 7) }),
    )
    for (const [index, one] of others.entries()) {
      packer.add(one, index)
      packer.pass(pass(records[0]), 100 + index)
    }
    // So many that the buffer is too small for these alone.
    for (let sequence = 1_000; sequence < 11_000; sequence++) packer.pass(pass(records[0]), sequence)
    const all = allUnpacked(packer)
    const passed = {
      topic: 0,
      partition: 0,
      batch: bytes,
      at: 8,
      tenant: 'acme',
      context: '{"tenant":"acme"',
      contextEnd: '',
      type: undefined,
      result: undefined,
    }
    const first = others.flatMap((one, index) => [expected(one, index), { ...passed, sequence: 100 + index }])
    expect(all.slice(0, first.length)).toEqual(first)
    expect(all.slice(first.length).map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 10_000 }, (_, index) => 1_000 + index),
    )
  })

  test('are only those that were unpacked from a batch', () => {
    const packer = new Packer(numbering().addon)
    const { records } = batchOf(1)
    expect(() => packer.pass(pass({ ...(records[0] as IncomingRecord) }), 0)).toThrow(TypeError)
    expect(packer.isEmpty).toBe(true)
  })
})

// ---- reports

const CLIENT = { _client: {} } as unknown as Producer & Consumer

/** An addon that has these reports, and notes what it is handed over. */
function reporting(reports: Report[], format = FORMAT) {
  const waiting = [...reports]
  const handed: { number: number; bytes: Buffer; texts: readonly string[]; batches: readonly Buffer[] }[] = []
  const purged: number[] = []
  const closed: number[] = []
  let announce = (): void => undefined
  const addon = addonOf({
    topic: () => 0,
    openProducer: (_client: object, onReports: () => void) => {
      announce = onReports
      return 42
    },
    produce: (number: number, bytes: Buffer, length: number, texts: readonly string[], batches: readonly Buffer[]) =>
      handed.push({ number, bytes: Buffer.from(bytes.subarray(0, length)), texts: [...texts], batches: [...batches] }),
    reports: (_number: number, to: Buffer) => {
      const given = waiting.splice(0, Math.floor(to.length / 32))
      for (const [index, { sequence, code, mayBeStored, partition, offset, timestampMs }] of given.entries()) {
        ;[sequence, code, partition, format | (mayBeStored ? 1 << 16 : 0)].forEach((int, at) => {
          to.writeInt32LE(int, index * 32 + at * 4)
        })
        to.writeDoubleLE(offset, index * 32 + 16)
        to.writeDoubleLE(timestampMs, index * 32 + 24)
      }
      return given.length
    },
    purge: (number: number) => purged.push(number),
    closeProducer: (number: number) => closed.push(number),
  })
  return { addon, handed, purged, closed, announce: () => announce() }
}

const reportOf = (sequence: number): Report => ({
  sequence,
  code: sequence % 3 === 0 ? 0 : -192,
  mayBeStored: sequence % 2 === 0,
  partition: sequence & 3,
  offset: 2 ** 40 + sequence,
  timestampMs: 1_700_000_000_000 + sequence,
})

describe('a producer by the batch', () => {
  test('hands over what is packed, once, and nothing when nothing is', () => {
    const { addon, handed } = reporting([])
    const producer = packProducer(addon, CLIENT, () => undefined)
    producer.flush()
    expect(handed).toEqual([])
    producer.packer.common(TRANSACTION, 'name')
    producer.packer.add(record({ key: 'a' }), 1)
    producer.packer.add(record({ key: 'b' }), 2)
    const batch = packIncoming([incoming({ plain: PLAIN })])
    const [passed] = readBatch(batch) as [IncomingRecord]
    producer.packer.pass({ topic: TOPIC, passed, tenant: 'acme', contextStart: '{', contextEnd: '' }, 3)
    const { bytes, length } = producer.packer.packed
    const packed = Buffer.from(bytes.subarray(0, length))
    producer.flush()
    producer.flush()
    expect(handed).toEqual([{ number: 42, bytes: packed, texts: ['name', 'acme', '{', ''], batches: [batch] }])
  })

  test.each([0, 1, 1_023, 1_024, 1_025, 5_000])('brings %d reports, each once and in order', (count) => {
    const reports = Array.from({ length: count }, (_, index) => reportOf(index - 10))
    const { addon, announce } = reporting(reports)
    const seen: Report[] = []
    const producer = packProducer(addon, CLIENT, (report) => seen.push({ ...report }))
    announce()
    expect(seen).toEqual(reports)
    producer.take()
    expect(seen).toHaveLength(count)
  })

  test('takes no reports of another format', () => {
    const { addon, announce } = reporting([reportOf(1)], FORMAT + 1)
    const seen: Report[] = []
    packProducer(addon, CLIENT, (report) => seen.push({ ...report }))
    expect(announce).toThrow(`packs in format ${FORMAT + 1}, and format ${FORMAT} is read here: run \`bun shared/`)
    expect(seen).toEqual([])
  })

  test('tells what was not queued from what was', () => {
    expect(isNotQueued({ ...reportOf(1), partition: -2 })).toBe(true)
    for (const partition of [-1, 0, 2]) expect(isNotQueued({ ...reportOf(1), partition })).toBe(false)
  })

  test('is purged and closed by its number', () => {
    const { addon, purged, closed } = reporting([])
    const producer = packProducer(addon, CLIENT, () => undefined)
    producer.purge()
    expect([purged, closed]).toEqual([[42], []])
    producer.close()
    expect([purged, closed]).toEqual([[42], [42]])
  })
})

// ---- filters

test('a filter is packed with its key and its conditions', () => {
  const ints = (...list: number[]): Buffer => Buffer.from(Int32Array.from(list).buffer)
  expect(packFilter({ headers: [] })).toEqual(ints(FORMAT, -1, 0))
  const headers = [
    { name: 'ce_id', value: 'é', how: 'equals' },
    { name: 'own', value: '', how: 'contains' },
  ] as const
  expect(packFilter({ headers, key: Buffer.from([0xff]) })).toEqual(
    Buffer.concat([
      ints(FORMAT, 1, 2),
      Buffer.from([0xff]),
      ints(0, 5, 2),
      Buffer.from('ce_idé'),
      ints(1, 3, 0),
      Buffer.from('own'),
    ]),
  )
})

// ---- incoming

interface Incoming {
  code: number
  topic: number
  partition: number
  offset: number
  timestampMs: number
  key: Buffer | null
  value: Buffer | null
  headers: { name: string; value: Buffer | null }[]
  /** What the addon knows of its event; undefined: nothing. */
  plain?: Plain | undefined
  /** Only its identity was asked for. */
  isIdentity?: boolean
}

interface Plain {
  type: number
  /** -1: not known. */
  receivedAtMs: number
  hash: readonly [bigint, bigint]
}

const PLAIN: Plain = { type: 1, receivedAtMs: 1_700_000_000_123, hash: [0x0123456789abcdefn, 0xfedcba9876543210n] }

const incoming = (more: Partial<Incoming> = {}): Incoming => ({
  code: 0,
  topic: 0,
  partition: 0,
  offset: 0,
  timestampMs: 0,
  key: null,
  value: null,
  headers: [],
  ...more,
})

const isAscii = (bytes: Buffer): boolean => bytes.every((byte) => byte < 0x80)

/** Writes the addon's side of the format. */
function packIncoming(records: readonly Incoming[], format = FORMAT): Buffer {
  const head = Buffer.alloc(8)
  head.writeInt32LE(format, 0)
  const parts = records.map((one) => {
    const { code, topic, partition, offset, timestampMs, key, value, headers, plain, isIdentity } = one
    const texts: Buffer[] = key === null ? [] : [key]
    const table = headers.flatMap(({ name, value: own }) => {
      const place = NAMES.indexOf(name)
      if (place < 0) texts.push(Buffer.from(name))
      if (own !== null) texts.push(own)
      const kind = own === null || isAscii(own) ? 0 : isUtf8(own) ? 1 : 2
      return [place < 0 ? ~Buffer.byteLength(name) : place, own?.length ?? -1, kind]
    })
    const text = Buffer.concat(texts)
    const valueAt = 80 + table.length * 4 + text.length
    const size = Math.ceil((valueAt + (value?.length ?? 0)) / 8) * 8
    const bytes = Buffer.alloc(size, 0xee)
    ;[size, code, topic, partition].forEach((int, at) => {
      bytes.writeInt32LE(int, at * 4)
    })
    bytes.writeDoubleLE(offset, 16)
    bytes.writeDoubleLE(timestampMs, 24)
    ;[key?.length ?? -1, value?.length ?? -1, isIdentity ? -1 : headers.length, valueAt].forEach((int, at) => {
      bytes.writeInt32LE(int, 32 + at * 4)
    })
    if (plain !== undefined) {
      for (const [which, hash] of plain.hash.entries()) bytes.writeBigUInt64LE(hash, 48 + which * 8)
      bytes.writeDoubleLE(plain.receivedAtMs, 64)
    }
    ;[isIdentity ? -1 : (plain?.type ?? -1), 0, ...table].forEach((int, at) => {
      bytes.writeInt32LE(int, 72 + at * 4)
    })
    text.copy(bytes, 80 + table.length * 4)
    value?.copy(bytes, valueAt)
    return bytes
  })
  return Buffer.concat([head, ...parts])
}

const TOPICS = ['first', 'second', 'third']
const TYPES = ['order.placed', 'a "type"', 'order.paid']
const topicOf = (number: number): string => TOPICS[number] ?? 'no such topic'
const typeOf = (number: number): string => TYPES[number] ?? 'no such type'
const INCOMING_NAMES = { topic: topicOf, type: typeOf }
const nothingBetween = (interruption: Interruption): void => {
  throw new Error(`interrupted by ${interruption.code}`)
}

const readBatch = (bytes: Buffer, onInterruption: (one: Interruption) => void = nothingBetween): IncomingRecord[] =>
  unpack(new Batch(bytes, bytes.length, INCOMING_NAMES), onInterruption)

/** A record's fields, which it reads from its batch only when they are asked for. */
const read = ({ topic, partition, offset, timestampMs, key, value, headers, plain }: IncomingRecord) => ({
  topic,
  partition,
  offset,
  timestampMs,
  key,
  value,
  headers,
  plain: plain && {
    type: plain.type,
    receivedAtMs: plain.receivedAtMs,
    identityHash: [...plain.identityHash],
  },
})

/** Words of 32 bits, the low one of each number first. */
const wordsOf = (hash: readonly [bigint, bigint]): number[] =>
  hash.flatMap((half) => [Number(half & 0xffff_ffffn), Number(half >> 32n)])

/** What is to be read of what was written. */
const expectedIncoming = (one: Incoming) => ({
  topic: topicOf(one.topic),
  partition: one.partition,
  offset: one.offset,
  timestampMs: one.timestampMs,
  key: one.key,
  value: one.value,
  headers: {
    names: one.headers.map(({ name }) => name),
    values: one.headers.map(({ value }) => (value !== null && isUtf8(value) ? value.toString() : value)),
  },
  plain: one.plain && {
    type: typeOf(one.plain.type),
    receivedAtMs: one.plain.receivedAtMs < 0 ? undefined : one.plain.receivedAtMs,
    identityHash: wordsOf(one.plain.hash),
  },
})

function expectRead(...records: Incoming[]): void {
  expect(readBatch(packIncoming(records)).map(read)).toEqual(records.map(expectedIncoming))
}

describe('incoming records', () => {
  test('are read as the format says', () => {
    const bytes = Buffer.alloc(120)
    ;[FORMAT, 0, 112, 0, 1, 5].forEach((int, at) => {
      bytes.writeInt32LE(int, at * 4)
    })
    bytes.writeDoubleLE(2 ** 53 - 1, 24)
    bytes.writeDoubleLE(1_700_000_000_000, 32)
    ;[3, 5, 1, 98].forEach((int, at) => {
      bytes.writeInt32LE(int, 40 + at * 4)
    })
    ;[1, 2, 3, 0xffff_fffe].forEach((word, at) => {
      bytes.writeUInt32LE(word, 56 + at * 4)
    })
    bytes.writeDoubleLE(1_699_999_999_999, 72)
    ;[2, 0, ~3, 0, 0].forEach((int, at) => {
      bytes.writeInt32LE(int, 80 + at * 4)
    })
    bytes.write('keyownvalue', 100)
    expect(readBatch(bytes)[0]?.bytes).toBe(112)
    expect(readBatch(bytes).map(read)).toEqual([
      {
        topic: 'second',
        partition: 5,
        offset: Number.MAX_SAFE_INTEGER,
        timestampMs: 1_700_000_000_000,
        key: Buffer.from('key'),
        value: Buffer.from('value'),
        headers: { names: ['own'], values: [''] },
        plain: { type: 'order.paid', receivedAtMs: 1_699_999_999_999, identityHash: [1, 2, 3, 0xffff_fffe] },
      },
    ])
  })

  test('are none where there is only the format', () => {
    expect(readBatch(packIncoming([]))).toEqual([])
  })

  test('of another format are not read', () => {
    const others = [packIncoming([incoming()], FORMAT + 1), packIncoming([incoming()]).subarray(8), Buffer.alloc(0)]
    for (const other of others)
      expect(() => readBatch(other)).toThrow(new RegExp(`packs in format .+, and format ${FORMAT} is read here`))
  })

  test('keep what is empty apart from what is not there', () => {
    const empty = Buffer.alloc(0)
    expectRead(
      incoming(),
      incoming({ key: empty }),
      incoming({ value: empty }),
      incoming({ headers: [{ name: 'own', value: null }] }),
      incoming({ key: empty, value: empty, headers: [{ name: '', value: empty }] }),
    )
  })

  test('have text for header values that are UTF-8, and bytes for others', () => {
    const values = [...TEXTS.map((text) => Buffer.from(text)), Buffer.from([0xff]), Buffer.from([0xed, 0xa0, 0x80])]
    expectRead(
      incoming({ headers: values.map((value) => ({ name: 'ce_id', value })), value: Buffer.from('value') }),
      ...values.map((value, offset) => incoming({ offset, key: value, value, headers: [{ name: 'own', value }] })),
    )
  })

  test('have every declared name by its place, and others by their text', () => {
    const names = [...NAMES, 'own', 'ключ', 'ce_own', ...NAMES]
    expectRead(incoming({ headers: names.map((name) => ({ name, value: Buffer.from('value') })) }))
  })

  test('may be read from the middle of a larger buffer', () => {
    const one = incoming({ key: Buffer.from('key'), headers: [{ name: 'own', value: Buffer.from('1') }], topic: 2 })
    const larger = Buffer.concat([Buffer.alloc(16, 0xff), packIncoming([one, one]), Buffer.alloc(8, 0xff)])
    const view = larger.subarray(16, larger.length - 8)
    expect(readBatch(view).map(read)).toEqual([expectedIncoming(one), expectedIncoming(one)])
  })

  test('are told apart from what came between them', () => {
    const [first, second] = [incoming({ offset: 7 }), incoming({ offset: 8, topic: 1 })]
    const batch = packIncoming([
      incoming({ code: -191, topic: 1, partition: 3, offset: 99 }),
      first,
      incoming({ code: -195, topic: -1, partition: -1, offset: -1001 }),
      second,
    ])
    const between: Interruption[] = []
    const records = readBatch(batch, (one) => between.push(one))
    expect(records.map(read)).toEqual([expectedIncoming(first), expectedIncoming(second)])
    expect(between).toEqual([
      { code: -191, topic: 'second', partition: 3, offset: 99 },
      { code: -195, topic: undefined, partition: -1, offset: -1001 },
    ])
  })

  test('are plain where they have a type, with when they were received where that is known', () => {
    expectRead(
      incoming(),
      incoming({ plain: PLAIN }),
      incoming({ plain: { ...PLAIN, type: 0, receivedAtMs: -1 } }),
      incoming({ plain: { ...PLAIN, receivedAtMs: 0, hash: [0n, 2n ** 64n - 1n] }, key: Buffer.from('k') }),
    )
  })

  test('decode their headers once', () => {
    const [one] = readBatch(packIncoming([incoming({ headers: [{ name: 'a', value: null }] })]))
    expect(one?.headers).toBe(one?.headers as never)
  })

  const bytes = fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array))
  const values = fc.option(
    fc.oneof(
      bytes,
      fc.string({ unit: 'grapheme' }).map((one) => Buffer.from(one)),
    ),
  )
  const names = fc.oneof(fc.constantFrom(...NAMES), fc.string({ unit: 'grapheme' }))
  const records = fc.record<Incoming>({
    code: fc.constant(0),
    topic: fc.nat({ max: TOPICS.length - 1 }),
    partition: fc.nat(),
    offset: fc.maxSafeNat(),
    timestampMs: fc.integer({ min: -1 }),
    key: values,
    value: values,
    headers: fc.array(fc.record({ name: names, value: values }), { maxLength: 12 }),
    plain: fc.option(
      fc.record<Plain>({
        type: fc.nat({ max: TYPES.length - 1 }),
        receivedAtMs: fc.oneof(fc.constant(-1), fc.maxSafeNat()),
        hash: fc.tuple(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
      }),
      { nil: undefined },
    ),
  })

  test('come out as they were written, whatever they are', () => {
    fc.assert(
      fc.property(fc.array(records), (list) => expectRead(...list)),
      { numRuns: 100 },
    )
  })

  test('are asked for by their number, with the names of topics and types once', () => {
    const one = incoming({ topic: 1, value: Buffer.from('value'), plain: PLAIN })
    const asked: string[] = []
    const addon = addonOf({
      consume: (_client: object, maxRecords: number, seeds: Buffer, identitiesOnly: boolean) => {
        expect([identitiesOnly, seeds.readBigUInt64LE(0), seeds.readBigUInt64LE(8)]).toEqual([false, ...SEEDS])
        return packIncoming(Array.from({ length: maxRecords }, () => one))
      },
      topic: (number: number) => {
        asked.push(`topic ${number}`)
        return topicOf(number)
      },
      type: (number: number) => {
        asked.push(`type ${number}`)
        return typeOf(number)
      },
    })
    for (const count of [2, 3])
      expect(consumePacked(addon, CLIENT, count, nothingBetween).map(read)).toEqual(
        Array.from({ length: count }, () => expectedIncoming(one)),
      )
    expect(asked).toEqual(['topic 1', 'type 1'])
  })

  test('leave their buffer to the next batch when all are released, and what was read of them stays', () => {
    const given: (Buffer | undefined)[] = []
    const batchOf = (fill: string): Buffer =>
      packIncoming(
        Array.from({ length: 200 }, (_, offset) =>
          incoming({
            offset,
            key: Buffer.from(fill),
            value: Buffer.alloc(400, fill),
            headers: [{ name: 'own', value: Buffer.from([0xff, fill.charCodeAt(0)]) }],
          }),
        ),
      )
    const fills = ['a', 'b', 'c', 'd']
    const addon = addonOf({
      consume: (...[, , , , buffer]: [object, number, Buffer, boolean, Buffer | undefined]) => {
        given.push(buffer)
        const packed = batchOf(fills[given.length - 1] as string)
        if (buffer === undefined) return packed
        packed.copy(buffer)
        return packed.length
      },
      topic: topicOf,
    })
    const buffers = new BatchBuffers()
    const next = (): IncomingRecord[] => consumePacked(addon, CLIENT, 200, nothingBetween, buffers)
    next()
    const second = next()
    const seen = second.map(read)
    for (const one of second.slice(1)) one.release?.()
    next()
    second[0]?.release?.()
    next()
    expect(given.map((buffer) => buffer && given.indexOf(buffer))).toEqual([undefined, 1, 2, 1])
    expect(seen[7]).toMatchObject({ key: Buffer.from('b'), value: Buffer.alloc(400, 'b') })
    expect(seen[7]?.headers.values).toEqual([Buffer.from([0xff, 'b'.charCodeAt(0)])])
  })

  test('may be asked only for their identities, and have hashes of those that the addon leaves to JavaScript', () => {
    const known = incoming({ topic: 1, partition: 3, offset: 5, timestampMs: 7, plain: PLAIN, isIdentity: true })
    const left = incoming({ topic: 1, partition: 4, offset: 6, timestampMs: 8, key: Buffer.from('key') })
    const end = incoming({ code: -191, topic: 1, partition: 3, offset: 6 })
    const addon = addonOf({
      consume: (_client: object, _maxRecords: number, seeds: Buffer, identitiesOnly: boolean) => {
        expect([identitiesOnly, seeds.length]).toEqual([true, 16])
        return packIncoming([known, left, end, known])
      },
      topic: topicOf,
    })
    const seen: unknown[] = []
    const between: Interruption[] = []
    const count = consumeIdentities(
      addon,
      CLIENT,
      10,
      ({ key }) => `identity of ${key}`,
      (...[topic, partition, offset, timestampMs, hash]) => seen.push([topic, partition, offset, timestampMs, ...hash]),
      (one) => between.push(one),
    )
    const first = ['second', 3, 5, 7, ...wordsOf(PLAIN.hash)]
    expect(seen).toEqual([first, ['second', 4, 6, 8, ...hashOf('identity of key')], first])
    expect(between).toEqual([{ code: -191, topic: 'second', partition: 3, offset: 6 }])
    expect(count).toBe(3)
  })

  test('are asked for with a filter, and tell how far the others go', () => {
    const filter = packFilter({ headers: [] })
    const over = incoming({ code: PASSED_OVER, topic: 1, partition: 3, offset: 6 })
    const one = incoming({ topic: 1 })
    const addon = addonOf({
      consume: (...[, , , , buffer, given]: [object, number, Buffer, boolean, undefined, Buffer]) => {
        expect([buffer, given]).toEqual([undefined, filter])
        return packIncoming([one, over])
      },
      topic: topicOf,
    })
    const between: Interruption[] = []
    const seen = consumePacked(addon, CLIENT, 10, (event) => between.push(event), undefined, filter)
    expect(seen.map(read)).toEqual([expectedIncoming(one)])
    expect(between).toEqual([{ code: PASSED_OVER, topic: 'second', partition: 3, offset: 6 }])
  })

  test('are none when none is ready', () => {
    const addon = addonOf({ consume: () => undefined })
    expect(consumePacked(addon, CLIENT, 10, nothingBetween)).toEqual([])
    const never = () => {
      throw new Error('there is nothing')
    }
    expect(consumeIdentities(addon, CLIENT, 10, never, never, never)).toBe(0)
  })
})
