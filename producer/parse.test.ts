import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { decodeHeader } from './parse.ts'

/** As in Bun's `Headers`: a character a byte. */
const received = (text: string): string => Buffer.from(text).toString('latin1')
const text = fc.string({ unit: fc.constantFrom(...('aZ09 %"\\{};,é日😀'.match(/./gu) ?? [])), maxLength: 12 })

describe('the value of a ce- header', () => {
  test('encoded as the binding says is what it was, strict or not', () => {
    fc.assert(
      fc.property(text, fc.boolean(), (value, strict) => {
        expect(decodeHeader(encodeURIComponent(value), strict)).toEqual({ ok: true, value })
      }),
    )
  })

  test('in double quotes, as older senders write it, is what it was, strict or not', () => {
    fc.assert(
      fc.property(text, fc.boolean(), (value, strict) => {
        const quoted = `"${value.replace(/["\\]/g, '\\$&').replace(/[^\x20-\x7e]|%/gu, encodeURIComponent)}"`
        expect(decodeHeader(quoted, strict)).toEqual({ ok: true, value })
      }),
    )
  })

  test('as it is, where nothing in it can be taken for an encoding, is what it was; strict takes it or refuses it', () => {
    fc.assert(
      fc.property(text, (value) => {
        fc.pre(!/%[0-9A-Fa-f]{2}/.test(value) && !/^".*"$/.test(value))
        expect(decodeHeader(received(value), false)).toEqual({ ok: true, value })
        expect(decodeHeader(received(value), true).ok).toBe(/^[\x21-\x7e]*$/.test(value) && !/[%"]/.test(value))
      }),
    )
  })
})
