import { createHash, hkdfSync } from 'node:crypto'
import { EncryptJWT, type JWTPayload, jwtDecrypt } from 'jose'

/** What the console leaves with browsers: encrypted, so that nobody can read or change it, and every console of the same place with the same secret can. */

/** What people log in to. A secret may be the same at several, and what is sealed at one must not count at another. */
export interface LoginPlace {
  issuer: string
  audience: string
  clientId: string
  /** Without a slash at its end. */
  publicUrl: string
}

export interface SealingKey {
  secret: string
  at: LoginPlace
}

/** JSON Web Encryption (RFC 7516) with a key of its own for each purpose, so that one cannot be given out for another. */
export class Sealed<Content extends object> {
  readonly #key: Uint8Array

  /** @param purpose of the content, such as "session" */
  constructor({ secret, at }: SealingKey, purpose: string) {
    const { issuer, audience, clientId, publicUrl } = at
    // Hashed, since info may have 1,024 bytes only.
    const place = createHash('sha256')
      .update(JSON.stringify([issuer, audience, clientId, publicUrl]))
      .digest('hex')
    this.#key = new Uint8Array(hkdfSync('sha256', secret, '', `kafkatrace console: ${purpose} ${place}`, 32))
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
