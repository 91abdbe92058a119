import { expect, test } from 'bun:test'
import { soughtIn, typedIn } from './sought.ts'

const none = { source: undefined, format: undefined }
const TRACE = 'f98c32b20a2e191b8eae786d89aa1766'

test('what is typed is an id, and before that a trace or a receipt if it looks like one', () => {
  expect(soughtIn({})).toEqual([])
  expect(soughtIn({ q: '  ' })).toEqual([])
  expect(soughtIn({ q: ' o-1 ' })).toEqual([{ id: 'o-1', ...none }])
  expect(soughtIn({ q: '4 / 1207' })).toEqual([
    { partition: 4, offset: 1207, format: undefined },
    { id: '4 / 1207', ...none },
  ])
  expect(soughtIn({ q: '4/1207/9' })).toEqual([{ id: '4/1207/9', ...none }])
  expect(soughtIn({ q: TRACE.toUpperCase() })).toEqual([
    { traceId: TRACE, format: undefined },
    { id: TRACE.toUpperCase(), ...none },
  ])
  expect(soughtIn({ q: TRACE.slice(1) })).toEqual([{ id: TRACE.slice(1), ...none }])
})

test('with a source or a key it is an id; without the key it is searched for once more', () => {
  expect(soughtIn({ q: TRACE, source: '/shop' })).toEqual([{ id: TRACE, source: '/shop', format: undefined }])
  expect(soughtIn({ q: '4/7', key: 'k', format: 'hex' })).toEqual([
    { id: '4/7', source: undefined, key: 'k', format: 'hex' },
    { id: '4/7', source: undefined, format: 'hex' },
  ])
})

test('links say what they are of', () => {
  expect(soughtIn({ id: TRACE, source: '', key: '', format: 'xml' })).toEqual([{ id: TRACE, ...none }])
  expect(soughtIn({ trace: TRACE, q: 'x' })).toEqual([{ traceId: TRACE, format: undefined }])
  expect(soughtIn({ at: '4/7' })).toEqual([{ partition: 4, offset: 7, format: undefined }])
  expect([
    typedIn({ id: 'a' }),
    typedIn({ trace: 'b' }),
    typedIn({ at: '4/7' }),
    typedIn({ q: '' }),
    typedIn({}),
  ]).toEqual(['a', 'b', '4/7', '', ''])
})
