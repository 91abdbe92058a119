import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto'
import { defaultProvider } from '@aws-sdk/credential-provider-node'
import { SignatureV4 } from '@smithy/signature-v4'
import { version } from '../../package.json' with { type: 'json' }
import { type Token, TokenError } from './token.ts'

/**
 * Tokens for Amazon MSK with IAM: a request that is signed and never sent, as its URL. MSK checks the signature and then the policies of who has signed it
 * (docs.aws.amazon.com/msk, "IAM access control"; the format is that of AWS's own signers). Apart, since few need the AWS SDK.
 */

const LIFETIME_S = 900

/** A user's or a role's. */
interface Credentials {
  accessKeyId: string
  secretAccessKey: string
  sessionToken?: string
  expiration?: Date
}

type Source = string | ArrayBuffer | ArrayBufferView

/** As the signer wants it. */
class Sha256 {
  readonly #hash: Hash | Hmac

  constructor(secret?: Source) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', bytesOf(secret))
  }

  update(data: Source): void {
    this.#hash.update(bytesOf(data))
  }

  digest(): Promise<Uint8Array> {
    return Promise.resolve(new Uint8Array(this.#hash.digest()))
  }
}

function bytesOf(data: Source): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data)
  return ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data)
}

/** RFC 3986, as signatures need it. */
const encoded = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`)

/**
 * @param credentials as the AWS SDK finds them: variables, web identity, files, container or instance
 * @throws TokenError when there are none
 */
export async function mskToken(
  region: string,
  credentials: () => Promise<Credentials> = provider(region),
  nowMs = Date.now(),
): Promise<Token> {
  const found = await credentials().catch((error: Error) => {
    throw new TokenError(`no AWS credentials: ${error.message}`)
  })
  const host = `kafka.${region}.amazonaws.com`
  const signer = new SignatureV4({
    service: 'kafka-cluster',
    region,
    credentials: found,
    sha256: Sha256,
    applyChecksum: false,
  })
  // A token of credentials that have expired would be refused.
  const leftS = found.expiration === undefined ? LIFETIME_S : (found.expiration.getTime() - nowMs) / 1_000
  const expiresIn = Math.max(1, Math.floor(Math.min(LIFETIME_S, leftS)))
  // Signatures have whole seconds.
  const signedAtMs = Math.floor(nowMs / 1_000) * 1_000
  const { query = {} } = await signer.presign(
    {
      method: 'GET',
      protocol: 'https:',
      hostname: host,
      path: '/',
      headers: { host },
      query: { Action: 'kafka-cluster:Connect' },
    },
    { expiresIn, signingDate: new Date(signedAtMs) },
  )
  const all = Object.entries({ ...query, 'User-Agent': `kafkatrace/${version}` })
  const parameters = all.map(([name, value]) => `${encoded(name)}=${encoded(String(value))}`).sort()
  const url = `https://${host}/?${parameters.join('&')}`
  return {
    value: Buffer.from(url).toString('base64url'),
    expiresAtMs: signedAtMs + expiresIn * 1_000,
    extensions: {},
  }
}

const providers = new Map<string, () => Promise<Credentials>>()

/** One for each region, since it keeps credentials until they expire. */
function provider(region: string): () => Promise<Credentials> {
  let found = providers.get(region)
  if (found === undefined) {
    found = defaultProvider({ clientConfig: { region } })
    providers.set(region, found)
  }
  return found
}
