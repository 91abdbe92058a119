/** A token that a client authenticates with, whoever has made it. */
export interface Token {
  value: string
  /** Since the epoch. */
  expiresAtMs: number
  /** RFC 7628, section 3.1. */
  extensions: Readonly<Record<string, string>>
}

/** Why there is no token; the message has no secret. */
export class TokenError extends Error {
  override readonly name = 'TokenError'
}
