import { expect, test } from 'bun:test'
import { namesOf } from './types.ts'

const names = (...subjects: string[]): string[] => {
  const found = namesOf(subjects)
  return subjects.map((subject) => found.get(subject) ?? '')
}

test('a name is that of the event’s type', () => {
  expect(names('acme.orders-order.placed')).toEqual(['OrderPlaced'])
  expect(names('acme-corp.orders-com.github.push')).toEqual(['ComGithubPush'])
  expect(names('order-placed-value')).toEqual(['OrderPlacedValue'])
})

test('types of the same name have that of their whole subject, whatever their order', () => {
  const expected = { 'a.x-order.placed': 'AXOrderPlaced', 'b.x-order.placed': 'BXOrderPlaced', 'c.x-other': 'Other' }
  const subjects = Object.keys(expected)
  expect(Object.fromEntries(namesOf(subjects))).toEqual(expected)
  expect(Object.fromEntries(namesOf(subjects.toReversed()))).toEqual(expected)
})

test('subjects that differ only in their signs are numbered, by their order', () => {
  expect(names('a_b', 'a+b', 'a.b')).toEqual(['AB3', 'AB', 'AB2'])
})

test.each(['1.x', '§', 'acme.orders-2fa'])('%s gives a name that TypeScript takes', (subject) => {
  expect(names(subject)[0]).toMatch(/^[A-Za-z][A-Za-z0-9]*$/)
})
