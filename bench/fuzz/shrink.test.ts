import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { withLength } from './requests.ts'
import { smallest } from './shrink.ts'

const always = () => true

test('all that does not matter is left out', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(99), { minLength: 1, maxLength: 200 }),
      fc.uniqueArray(fc.nat(199), { minLength: 1, maxLength: 4 }),
      async (numbers, at) => {
        const needed = [...new Set(at.map((one) => one % numbers.length))].sort((a, b) => a - b)
        const parts = numbers.map((_, index) => index)
        const fails = async (some: readonly number[]) => needed.every((one) => some.includes(one))
        expect(await smallest(parts, fails, always)).toEqual(needed)
      },
    ),
    { numRuns: 50 },
  )
})

test('what only fails as a whole stays whole, and of what fails anyway one part is left', async () => {
  expect(await smallest([1, 2, 3, 4, 5], async (some) => some.length === 5, always)).toEqual([1, 2, 3, 4, 5])
  expect(await smallest([1, 2, 3, 4, 5], async () => true, always)).toHaveLength(1)
})

test('the search ends when its time is over, with what still fails', async () => {
  let tries = 0
  const parts = Array.from({ length: 1_000 }, (_, index) => index)
  const left = await smallest(
    parts,
    async (some) => {
      tries++
      return some.includes(700)
    },
    () => tries < 3,
  )
  expect(left).toContain(700)
  expect(left.length).toBeGreaterThan(1)
  expect(tries).toBe(3)
})

test('a request that is made smaller says the length of the body that is left', () => {
  const of = (head: string) => withLength(Buffer.from(`${head}\r\n\r\nabc`)).toString()
  expect(of('POST / HTTP/1.1\r\nContent-Length: 12')).toBe('POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc')
  expect(of('POST / HTTP/1.1')).toBe('POST / HTTP/1.1\r\n\r\nabc')
  expect(withLength(Buffer.from('content-length: 7')).toString()).toBe('content-length: 7')
})
