import { describe, expect, test } from 'bun:test'
import { diffLines } from 'diff'
import fc from 'fast-check'
import { folded } from './folded.ts'

const lines = (from: number, to: number): string =>
  Array.from({ length: to - from + 1 }, (_, index) => `${from + index}\n`).join('')

const shownOf = (before: string, after: string): (string | number)[] =>
  folded(diffLines(before, after)).map((one) =>
    'same' in one ? one.same : `${one.added ? '+' : one.removed ? '-' : ' '}${one.value}`,
  )

describe('a difference', () => {
  test('is shown with three lines around it, and the number of the others', () => {
    expect(shownOf(lines(1, 20), lines(1, 20).replace('10\n', 'x\n'))).toEqual([
      6,
      ' 7\n8\n9\n',
      '-10\n',
      '+x\n',
      ' 11\n12\n13\n',
      7,
    ])
  })

  test('at the beginning and at the end has nothing left out there', () => {
    expect(shownOf(lines(2, 9), lines(1, 10))).toEqual(['+1\n', ` ${lines(2, 4)}`, 2, ` ${lines(7, 9)}`, '+10\n'])
    expect(shownOf(lines(2, 8), lines(1, 9))).toEqual(['+1\n', ` ${lines(2, 8)}`, '+9\n'])
  })

  test('loses no change, and no line that is not counted', () => {
    const text = fc.array(fc.constantFrom('a\n', 'b\n', '\n'), { maxLength: 30 }).map((some) => some.join(''))
    fc.assert(
      fc.property(text, text, (before, after) => {
        const parts = diffLines(before, after)
        const shown = folded(parts)
        const changes = (some: readonly object[]) =>
          some.filter((one) => ('added' in one && one.added === true) || ('removed' in one && one.removed === true))
        expect(changes(shown)).toEqual(changes(parts))
        const count = shown.reduce((sum, one) => sum + ('same' in one ? one.same : one.value.split('\n').length - 1), 0)
        expect(count).toBe(parts.reduce((sum, { value }) => sum + value.split('\n').length - 1, 0))
      }),
    )
  })
})
