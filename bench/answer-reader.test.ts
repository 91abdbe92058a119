import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { AnswerReader } from './answer-reader.ts'

const answer = (status: string, body: string, headers = `Content-Length: ${Buffer.byteLength(body)}`) =>
  Buffer.from(`HTTP/1.1 ${status}\r\nDate: today\r\n${headers}\r\n\r\n${body}`)

test('an answer is read however it is cut into chunks, and the next one after it', () => {
  fc.assert(
    fc.property(fc.string(), fc.array(fc.nat({ max: 200 })), (body, cuts) => {
      const reader = new AnswerReader()
      const bytes = answer('202 Accepted', body)
      const places = [...new Set(cuts.map((cut) => cut % bytes.length))].filter((cut) => cut > 0).sort((a, b) => a - b)
      const bounds = [0, ...places, bytes.length]
      for (let round = 0; round < 2; round++) {
        const read = bounds.slice(1).map((end, index) => reader.push(bytes.subarray(bounds[index], end)))
        expect(read.slice(0, -1).every((one) => one === undefined)).toBe(true)
        expect(read.at(-1)).toEqual({ status: 202, body: Buffer.from(body).toString(), closes: false })
      }
    }),
  )
})

test('that the server will close the connection is noticed', () => {
  const bytes = answer('503 Service Unavailable', '', 'content-length: 0\r\nConnection: close')
  expect(new AnswerReader().push(bytes)).toEqual({ status: 503, body: '', closes: true })
})

test('a status without a reason is a status', () => {
  expect(new AnswerReader().push(Buffer.from('HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok'))?.status).toBe(200)
})

test('anything but a content length is a fault', () => {
  expect(() => new AnswerReader().push(answer('200 OK', 'a', 'Transfer-Encoding: chunked'))).toThrow('content-length')
  expect(() => new AnswerReader().push(answer('200 OK', 'ab', 'Content-Length: 1'))).toThrow('1 bytes more')
  expect(() => new AnswerReader().push(Buffer.from('hello\r\n\r\n'))).toThrow('status line')
  expect(() => new AnswerReader().push(Buffer.alloc(20_000, 97))).toThrow('16384')
})
