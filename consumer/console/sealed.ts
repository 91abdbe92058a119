import { hkdfSync } from 'node:crypto'
import { EncryptJWT, type JWTPayload, jwtDecrypt } from 'jose'

/** What the console leaves with browsers: encrypted, so that nobody can read or change it, and every console with the same secret can. */

/** JSON Web Encryption (RFC 7516) with a key of its own for each purpose, so that one cannot be given out for another. */
export class Sealed<Content extends object> {
  readonly #key: Uint8Array

  /** @param purpose of the content, such as "session" */
  constructor(secret: string, purpose: string) {
    this.#key = new Uint8Array(hkdfSync('sha256', secret, '', `kafkatrace console: ${purpose}`, 32))
  }

  /** @param untilMs when it cannot be opened any more, epoch */
  seal(content: Content, untilMs: number): Promise<string> {
    return new EncryptJWT({ content } as JWTPayload)
      .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
      .setExpirationTime(Math.floor(untilMs / 1_000))
      .encrypt(this.#key)
  }

  /** undefined for what was not sealed with this secret and purpose, and for what is over. */
  async open(text: string, nowMs: number): Promise<Content | undefined> {
    try {
      const { payload } = await jwtDecrypt<{ content: Content }>(text, this.#key, {
        keyManagementAlgorithms: ['dir'],
        contentEncryptionAlgorithms: ['A256GCM'],
        requiredClaims: ['exp'],
        currentDate: new Date(nowMs),
      })
      return payload.content
    } catch {
      return undefined
    }
  }
}
