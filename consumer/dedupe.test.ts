import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { hashOf } from '../shared/kafka/identity-hash.ts'
import { HashWindow } from './dedupe.ts'

test('a window knows exactly the last texts that were added, and how each was last marked, whatever the order of additions', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 60 }), fc.boolean()), { maxLength: 400 }),
      (capacity, additions) => {
        const window = new HashWindow(capacity)
        const model: string[] = []
        const marks = new Map<string, boolean>()
        for (const [addition, marked] of additions) {
          const text = `/source\n${addition}`
          window.add(hashOf(text), marked)
          marks.set(text, marked)
          if (model.includes(text)) continue
          model.push(text)
          if (model.length > capacity) model.shift()
        }
        for (let one = 0; one <= 60; one++) {
          const text = `/source\n${one}`
          expect(window.has(hashOf(text))).toBe(model.includes(text))
          expect(window.isMarked(hashOf(text))).toBe(model.includes(text) && marks.get(text) === true)
        }
        expect(window.size).toBe(model.length)
      },
    ),
    { numRuns: 300 },
  )
})

test('a full window of the default size keeps its answers while it goes round many times', () => {
  const capacity = 10_000
  const window = new HashWindow(capacity)
  for (let one = 0; one < 5 * capacity; one++) window.add(hashOf(String(one)))
  for (let one = 4 * capacity; one < 5 * capacity; one++)
    if (!window.has(hashOf(String(one)))) throw new Error(`${one} is forgotten`)
  for (let one = 0; one < 4 * capacity; one++)
    if (window.has(hashOf(String(one)))) throw new Error(`${one} is not forgotten`)
})
