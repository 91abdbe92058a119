import { join } from 'node:path'
import { makeOwnFolder } from '../dev/own-folder.ts'
import { run } from '../dev/run.ts'

/** Certificates for tests, made by openssl. */

export const KEY_PASSWORD = 'key-password'

export interface Certificate {
  /** PEM files. */
  certificateFile: string
  keyFile: string
  /** The key, encrypted with {@link KEY_PASSWORD}. */
  encryptedKeyFile: string
  /** Both in one, as Kafka's `ssl.keystore.location` takes them with `ssl.keystore.type=PEM`. */
  keystoreFile: string
}

export interface Authority {
  certificateFile: string
  /** @param names such as "DNS:localhost,IP:127.0.0.1"; the subject is the first, "CN=localhost" @param days until it expires; negative: it has expired */
  issue(names: string, days?: number): Promise<Certificate>
}

/** A certificate authority. @param directory where its files are; default: one of its own, until this process has ended */
export async function createAuthority(directory = makeOwnFolder('kafkatrace-certificates-')): Promise<Authority> {
  const at = (name: string) => join(directory, name)
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  await openssl('req', '-x509', ...newKey, '-keyout', at('ca.key'), '-out', at('ca.pem'), '-subj', '/CN=authority')
  let issued = 0
  return {
    certificateFile: at('ca.pem'),
    async issue(names, days = 1) {
      const number = ++issued
      const [key, request, certificate] = [at(`${number}.key`), at(`${number}.csr`), at(`${number}.pem`)]
      await openssl('req', ...newKey, '-keyout', key, '-out', request, '-subj', `/CN=${/:([^,]*)/.exec(names)?.[1]}`)
      await Bun.write(at(`${number}.ext`), `subjectAltName=${names}`)
      // `openssl ca` is the only command that sets a past expiry in every version. It needs a database of certificates.
      await Bun.write(at(`${number}.index`), '')
      await Bun.write(
        at(`${number}.conf`),
        `${REGISTER}database = ${at(`${number}.index`)}\nnew_certs_dir = ${directory}\n`,
      )
      const signer = ['-config', at(`${number}.conf`), '-cert', at('ca.pem'), '-keyfile', at('ca.key')]
      const term = ['-startdate', utcTime(Math.min(0, days) - 1), '-enddate', utcTime(days)]
      await openssl(
        'ca',
        '-batch',
        '-notext',
        ...signer,
        ...term,
        '-in',
        request,
        '-out',
        certificate,
        '-extfile',
        at(`${number}.ext`),
      )
      const keystoreFile = at(`${number}.keystore.pem`)
      await Bun.write(keystoreFile, (await Bun.file(key).text()) + (await Bun.file(certificate).text()))
      const encrypted = at(`${number}.encrypted.key`)
      await openssl('pkey', '-in', key, '-aes256', '-passout', `pass:${KEY_PASSWORD}`, '-out', encrypted)
      return { certificateFile: certificate, keyFile: key, encryptedKeyFile: encrypted, keystoreFile }
    },
  }
}

/** The configuration of `openssl ca`, without the paths of its database. */
const REGISTER = `[ca]
default_ca = ours
[subject]
commonName = supplied
[ours]
default_md = sha256
policy = subject
rand_serial = yes
`

/** A time so many days from now, as ASN.1's UTCTime. */
const utcTime = (days: number): string =>
  `${new Date(Date.now() + days * 86_400_000).toISOString().slice(2, 19).replace(/[-T:]/g, '')}Z`

async function openssl(...args: string[]): Promise<void> {
  const { exitCode, errors } = await run(['openssl', ...args])
  if (exitCode !== 0) throw new Error(`openssl ${args[0]} exited with ${exitCode}: ${errors}`)
}
