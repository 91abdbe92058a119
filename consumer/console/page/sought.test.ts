import { expect, test } from 'bun:test'
import { soughtIn } from './sought.ts'

test('one field takes an id, a trace or a receipt', () => {
  expect(soughtIn({})).toBeUndefined()
  expect(soughtIn({ q: '  ' })).toBeUndefined()
  expect(soughtIn({ q: ' o-1 ' })).toMatchObject({ id: 'o-1' })
  expect(soughtIn({ q: '4/1207' })).toMatchObject({ partition: 4, offset: 1207 })
  expect(soughtIn({ q: '4 / 1207' })).toMatchObject({ partition: 4, offset: 1207 })
  expect(soughtIn({ q: '4/1207/9' })).toMatchObject({ id: '4/1207/9' })
  expect(soughtIn({ q: 'F98C32B20A2E191B8EAE786D89AA1766' })).toMatchObject({
    traceId: 'f98c32b20a2e191b8eae786d89aa1766',
  })
  expect(soughtIn({ q: 'f98c32b20a2e191b8eae786d89aa176' })).toMatchObject({ id: 'f98c32b20a2e191b8eae786d89aa176' })
})

test('source and key narrow an id; the format is one that there is', () => {
  expect(soughtIn({ q: 'o-1', source: '/shop', key: 'k', format: 'hex' })).toEqual({
    id: 'o-1',
    source: '/shop',
    key: 'k',
    format: 'hex',
  })
  expect(soughtIn({ q: 'o-1', source: '', key: '', format: 'xml' })).toEqual({
    id: 'o-1',
    source: undefined,
    key: undefined,
    format: undefined,
  })
})
