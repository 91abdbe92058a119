/** The parts of HTTP/1.1 (RFC 9112) that a load generator needs to read responses. Strict, so that unexpected responses are noticed. */

export interface Answer {
  status: number
  body: string
  /** The server closes the connection after this response. */
  closes: boolean
}

/** The longest head of a response, in bytes. */
const MAX_HEAD_BYTES = 16_384

const HEAD_END = '\r\n\r\n'

/** Reads responses on a connection without pipelining. */
export class AnswerReader {
  #pending: Buffer | undefined

  /**
   * @returns the response, once its last byte has arrived
   * @throws Error for anything other than a status line, a content length and that many bytes
   */
  push(chunk: Buffer): Answer | undefined {
    const bytes = this.#pending === undefined ? chunk : Buffer.concat([this.#pending, chunk])
    const headEnd = bytes.indexOf(HEAD_END)
    if (headEnd < 0) {
      if (bytes.length > MAX_HEAD_BYTES) throw new Error(`an answer whose head has more than ${MAX_HEAD_BYTES} bytes`)
      this.#keep(bytes)
      return undefined
    }
    const head = bytes.toString('latin1', 0, headEnd)
    const status = /^HTTP\/1\.1 (\d{3})[ \r]/.exec(`${head}\r`)?.[1]
    if (status === undefined) throw new Error(`no status line of HTTP/1.1: ${JSON.stringify(head.slice(0, 60))}`)
    const length = /\r\ncontent-length:[ \t]*(\d{1,10})[ \t]*(?:\r|$)/i.exec(head)?.[1]
    if (length === undefined) throw new Error(`an answer with status ${status} and no content-length`)
    const bodyStart = headEnd + HEAD_END.length
    const end = bodyStart + Number(length)
    if (bytes.length > end) throw new Error(`${bytes.length - end} bytes more than the answer's content-length says`)
    if (bytes.length < end) {
      this.#keep(bytes)
      return undefined
    }
    this.#pending = undefined
    return {
      status: Number(status),
      body: bytes.toString('utf8', bodyStart, end),
      closes: /\r\nconnection:[ \t]*close/i.test(head),
    }
  }

  /** The runtime may reuse a chunk's memory once its handler has returned. */
  #keep(bytes: Buffer): void {
    this.#pending = Buffer.from(bytes)
  }
}
