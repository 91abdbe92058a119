import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Certificates for tests, made by openssl. */

export interface Certificate {
  /** PEM files. */
  certificateFile: string
  keyFile: string
  /** Both in one, as Kafka's `ssl.keystore.location` takes them with `ssl.keystore.type=PEM`. */
  keystoreFile: string
}

export interface Authority {
  certificateFile: string
  /** @param names such as "DNS:localhost,IP:127.0.0.1"; the subject is the first of them, "CN=localhost" @param days until it expires; negative: it has */
  issue(names: string, days?: number): Promise<Certificate>
}

/** An authority of its own, whose files are in a directory of their own. */
export async function createAuthority(): Promise<Authority> {
  const directory = mkdtempSync(join(tmpdir(), 'kafkatrace-certificates-'))
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
      const signed = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial', '-extfile', at(`${number}.ext`)]
      await openssl('x509', '-req', '-in', request, '-out', certificate, '-days', String(days), ...signed)
      const keystoreFile = at(`${number}.keystore.pem`)
      await Bun.write(keystoreFile, (await Bun.file(key).text()) + (await Bun.file(certificate).text()))
      return { certificateFile: certificate, keyFile: key, keystoreFile }
    },
  }
}

async function openssl(...args: string[]): Promise<void> {
  const child = Bun.spawn(['openssl', ...args], { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' })
  const [errors, exitCode] = await Promise.all([child.stderr.text(), child.exited])
  if (exitCode !== 0) throw new Error(`openssl ${args[0]} exited with ${exitCode}: ${errors}`)
}
