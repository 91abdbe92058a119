import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { fragmentOf, placeIn, VIEWS } from './fragment.ts'

test('an address that names no view shows the first', () => {
  for (const fragment of ['', '#', '#/', '#/nothing', '#nothing?q=1']) expect(placeIn(fragment).view).toBe('pipeline')
  expect(placeIn('#/find?q=a%2Fb%3F&stream=orders')).toEqual({
    view: 'find',
    parameters: { q: 'a/b?', stream: 'orders' },
  })
})

test('whatever is chosen comes back from its address; what is empty is left out', () => {
  const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
  fc.assert(
    fc.property(
      fc.constantFrom(...VIEWS),
      fc.dictionary(text, text, { noNullPrototype: true, maxKeys: 5 }),
      (view, parameters) => {
        const place = { view, parameters: { ...parameters } }
        expect(placeIn(fragmentOf({ view, parameters: { ...parameters, nothing: '' } }))).toEqual(
          'nothing' in parameters ? placeIn(fragmentOf({ view, parameters: { ...parameters, nothing: '' } })) : place,
        )
      },
    ),
    { numRuns: 100 },
  )
})
