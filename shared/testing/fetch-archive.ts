import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { BrokerUnavailableError } from '../dev/brokers/broker.ts'
import { run } from '../dev/run.ts'

/** For archives of up to 160 MB. */
const FETCH_TIMEOUT_MS = 600_000

/**
 * Downloads a tar.gz from Maven Central and unpacks it into a folder.
 * @param of.name of what is in it, for messages
 * @param of.path after `https://repo.maven.apache.org/maven2/`
 * @param of.sha512 as Maven Central has it beside the archive
 * @param of.withoutTop leaves out the archive's only top folder
 * @throws BrokerUnavailableError when Maven Central does not answer, or gives something else
 */
export async function fetchArchive(
  folder: string,
  of: { name: string; path: string; sha512: string; withoutTop?: boolean },
): Promise<void> {
  const url = `https://repo.maven.apache.org/maven2/${of.path}`
  const archive = join(folder, 'archive.tar.gz')
  const hash = new Bun.CryptoHasher('sha512')
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) })
    if (!response.ok || response.body === null) throw new Error(`it answered ${response.status}`)
    const file = Bun.file(archive).writer()
    for await (const part of response.body) {
      hash.update(part)
      file.write(part)
      await file.flush()
    }
    await file.end()
  } catch (error) {
    throw new BrokerUnavailableError(
      `${of.name} could not be fetched from ${url}; is Maven Central reachable? (${(error as Error).message})`,
    )
  }
  const found = hash.digest('hex')
  if (found !== of.sha512) throw new BrokerUnavailableError(`${url} has the SHA-512 ${found}, and not ${of.sha512}`)
  const strip = of.withoutTop === true ? ['--strip-components=1'] : []
  const unpacked = await run(['tar', '-xzf', archive, '-C', folder, ...strip])
  if (unpacked.exitCode !== 0) throw new BrokerUnavailableError(`tar cannot unpack ${archive}: ${unpacked.errors}`)
  await rm(archive)
}
