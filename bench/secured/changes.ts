import { join } from 'node:path'
import { createAuthority } from '../../shared/testing/certificates.ts'
import type { SecuredKafka, Variables } from '../../shared/testing/secured-kafka.ts'
import type { Service } from '../../shared/testing/services.ts'
import { until } from '../../shared/testing/until.ts'

/** Changes of credentials, at the broker and in the files of services that run. */

const USED_TIMEOUT_MS = 120_000
const USED = 'changed credentials for Kafka are used'

/** @returns once all services have said that they use what was changed */
export async function used(services: readonly Service[], change: () => Promise<unknown>): Promise<void> {
  const before = await Promise.all(services.map((service) => service.linesWith(USED)))
  await change()
  for (const [index, service] of services.entries())
    await until(async () => (await service.linesWith(USED)) > (before[index] ?? 0), {
      timeoutMs: USED_TIMEOUT_MS,
      what: `${service.name} to use what is new`,
    })
}

/** Puts a value, or what another file has, into the file that a variable names. */
export const write = (files: Variables, variable: string, value: string | Bun.BunFile): Promise<number> =>
  Bun.write(files[variable] ?? '', value)

/**
 * Replaces the authority of the listener MUTUAL and both certificates that it signed, in steps, until the old one is not trusted: both are trusted, the new
 * certificates are shown, only the new authority is trusted.
 * @param taken makes a change of files, and returns once no connection has what was before
 */
export async function changeAuthority(
  kafka: SecuredKafka,
  user: string,
  files: Variables,
  folder: string,
  taken: (change: () => Promise<unknown>) => Promise<void>,
): Promise<void> {
  const authority = await createAuthority()
  const both = join(folder, `both-of-${user}.pem`)
  const text = (file: string): Promise<string> => Bun.file(file).text()
  await Bun.write(both, (await text(kafka.authority.certificateFile)) + (await text(authority.certificateFile)))
  await kafka.changeCertificates({ authorityFile: both })
  await taken(() => write(files, 'KAFKA_SSL_CA_FILE', Bun.file(both)))
  const [client, broker] = await Promise.all([
    authority.issue(`DNS:${user}`),
    authority.issue('DNS:localhost,IP:127.0.0.1'),
  ])
  await taken(() => showCertificate(files, client))
  await kafka.changeCertificates({ keystoreFile: broker.keystoreFile })
  await taken(() => write(files, 'KAFKA_SSL_CA_FILE', Bun.file(authority.certificateFile)))
  await kafka.changeCertificates({ authorityFile: authority.certificateFile })
}

/** Replaces a client's certificate and key in its files. */
export async function showCertificate(
  files: Variables,
  { certificateFile, keyFile }: { certificateFile: string; keyFile: string },
): Promise<void> {
  await write(files, 'KAFKA_SSL_CERTIFICATE_FILE', Bun.file(certificateFile))
  await write(files, 'KAFKA_SSL_KEY_FILE', Bun.file(keyFile))
}
