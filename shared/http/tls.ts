import type { TLSOptions } from 'bun'
import type { Material } from './certificates.ts'

/** What ports speak: TLS 1.3 and 1.2, and of the latter only ciphers with forward secrecy and authenticated encryption (Mozilla's "intermediate" configuration, 5.7). */

// Bun has neither DHE nor versions below 1.2, and the ciphers of TLS 1.3 cannot be chosen.
const CIPHERS = [
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

/** A client without a certificate, or with one that does not verify, is let in: whoever asks for one decides. */
export const tlsOf = ({ certificate, key, clientCa }: Material): TLSOptions => ({
  cert: certificate,
  key,
  ciphers: CIPHERS,
  ...(clientCa === undefined ? {} : { ca: clientCa, requestCert: true, rejectUnauthorized: false }),
})
