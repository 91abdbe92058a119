import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { hashOf } from '../shared/kafka/identity-hash.ts'
import { Deduplication, HashWindow } from './dedupe.ts'

test('a window knows exactly the last texts that were added, and how each was last marked, whatever the order of additions', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 60 }), fc.boolean(), fc.boolean()), { maxLength: 400 }),
      (capacity, additions) => {
        const window = new HashWindow(capacity)
        const model: string[] = []
        const marks = new Map<string, boolean>()
        for (const [addition, marked, onlyNew] of additions) {
          const text = `/source\n${addition}`
          if (onlyNew) {
            const isNew = !model.includes(text)
            expect(window.addNew(hashOf(text))).toBe(isNew)
            if (isNew) marks.set(text, false)
          } else {
            window.add(hashOf(text), marked)
            marks.set(text, marked)
          }
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
    { numRuns: 100 },
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

describe('an event that is finished in one step', () => {
  const IDENTITY = '/source\n1'
  const finishNew = (dedupe: Deduplication, identity = IDENTITY): boolean => dedupe.finishNew(hashOf(identity))

  test('is done, and no dead letter, and is no new one again', () => {
    const dedupe = new Deduplication(10)
    expect(finishNew(dedupe)).toBe(true)
    expect([dedupe.isDone(IDENTITY), dedupe.isDead(IDENTITY), dedupe.size]).toEqual([true, false, 1])
    expect(finishNew(dedupe)).toBe(false)
    expect(dedupe.claim(IDENTITY)).toBe(false)
    expect(dedupe.size).toBe(1)
  })

  test('was none that is being processed; what that becomes is not touched', () => {
    const dedupe = new Deduplication(10)
    expect(dedupe.claim(IDENTITY)).toBe(true)
    expect(finishNew(dedupe)).toBe(false)
    expect(dedupe.isDone(IDENTITY)).toBe(false)
    expect(finishNew(dedupe, 'another')).toBe(true)
    expect(dedupe.claim(IDENTITY)).toBe(false)
    dedupe.finish(IDENTITY, true)
    expect(finishNew(dedupe)).toBe(false)
    expect([dedupe.isDone(IDENTITY), dedupe.isDead(IDENTITY), dedupe.size]).toEqual([true, true, 2])
  })

  test('is new again once it was forgotten', () => {
    const dedupe = new Deduplication(2)
    for (const identity of ['a', 'b', 'c']) expect(finishNew(dedupe, identity)).toBe(true)
    expect([finishNew(dedupe, 'c'), finishNew(dedupe, 'a'), finishNew(dedupe, 'c')]).toEqual([false, true, false])
  })

  test('is one event whichever way it comes, in any order', () => {
    const step = fc.tuple(fc.constantFrom('claim', 'finish', 'finish dead', 'finishNew'), fc.nat(8))
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const dedupe = new Deduplication(1_000)
        const claimed = new Set<string>()
        const done = new Map<string, boolean>()
        for (const [what, number] of steps) {
          const identity = `/source\n${number}`
          const isNew = !claimed.has(identity) && !done.has(identity)
          switch (what) {
            case 'claim':
              expect(dedupe.claim(identity)).toBe(isNew)
              if (isNew) claimed.add(identity)
              break
            case 'finishNew':
              expect(finishNew(dedupe, identity)).toBe(isNew)
              if (isNew) done.set(identity, false)
              break
            default:
              dedupe.finish(identity, what === 'finish dead')
              claimed.delete(identity)
              done.set(identity, what === 'finish dead')
          }
        }
        for (let number = 0; number <= 8; number++) {
          const identity = `/source\n${number}`
          expect([dedupe.isDone(identity), dedupe.isDead(identity)]).toEqual([
            done.has(identity),
            done.get(identity) === true,
          ])
        }
        expect(dedupe.size).toBe(done.size)
      }),
    )
  })

  test('is told from one that is being processed, and from one that is done, by every bit of its hash', () => {
    const hash = hashOf(IDENTITY).slice()
    const others = Array.from({ length: 128 }, (_, bit) => {
      const other = hash.slice()
      other[bit >> 5] = (other[bit >> 5] as number) ^ (1 << (bit & 31))
      return other
    })
    // The lowest bit of the last word is the mark.
    others.splice(96, 1)
    const [claimed, done] = [new Deduplication(1_000), new Deduplication(1_000)]
    claimed.claim(IDENTITY)
    done.addDone(hash, true)
    for (const dedupe of [claimed, done]) {
      expect(others.every((other) => dedupe.finishNew(other))).toBe(true)
      expect(dedupe.finishNew(hash)).toBe(false)
    }
  })
})
