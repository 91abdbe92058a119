import { type Static, type TObject, Type } from '@sinclair/typebox'
import { Gauge, type Registry } from 'prom-client'
import { addCertificateMetric } from '../service/certificate-expiry.ts'
import { ConfigError, choice } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { authoritiesFault, ownerNotAfterMs, pairFault, pemFault, quoted, type Wanted } from '../service/pem.ts'
import { sleep } from '../service/retry.ts'
import { readNamedFile, SecretFileError } from '../service/secret-file.ts'
import { messageOf } from '../service/thrown.ts'
import { FILES_POLL_MS, watchFiles } from '../service/watched-files.ts'

/** The certificate of a service's own ports: read when it starts, and again whenever its files change. */

/** Of every service. */
export const certificateVariables = {
  TLS_CERTIFICATE_FILE: Type.Optional(
    Type.String({
      description:
        'A PEM file: the certificate of this service’s ports, then those between it and its authority. With it, the public port speaks TLS and nothing else. It is read again when it changes.',
    }),
  ),
  TLS_KEY_FILE: Type.Optional(
    Type.String({
      description: 'The private key of TLS_CERTIFICATE_FILE, PEM, not encrypted. It is read again when it changes.',
    }),
  ),
  OPS_TLS: choice(['on', 'off'], {
    default: 'off',
    description: 'on: the operations port speaks TLS too, with the certificate of TLS_CERTIFICATE_FILE.',
  }),
}

/** Of services with a public port, besides. */
export const clientCertificateVariables = {
  TLS_CLIENT_CA_FILE: Type.Optional(
    Type.String({
      description:
        'A PEM file of authorities. With it, the public port asks clients for a certificate; one of these authorities stands for the tenant that TENANTS_FILE names for it. A client without one needs a key as always. It is read again when it changes.',
    }),
  ),
}

type Variables = Static<TObject<typeof certificateVariables>> &
  Partial<Static<TObject<typeof clientCertificateVariables>>>

/** Faults of these variables together. What is in the files is looked at by {@link certificatesOf}. */
export function certificateFaults(config: Variables): string[] {
  const faults: string[] = []
  const isOn = config.TLS_CERTIFICATE_FILE !== undefined
  if (isOn !== (config.TLS_KEY_FILE !== undefined))
    faults.push('TLS_CERTIFICATE_FILE and TLS_KEY_FILE go together: set both or neither.')
  if (config.OPS_TLS === 'on' && !isOn) faults.push('OPS_TLS is on, and TLS_CERTIFICATE_FILE is not set.')
  if (config.TLS_CLIENT_CA_FILE !== undefined && !isOn)
    faults.push('TLS_CLIENT_CA_FILE is set, and TLS_CERTIFICATE_FILE is not: clients show certificates in TLS only.')
  return faults
}

/** What a server needs for TLS; all PEM. */
export interface Material {
  certificate: string
  key: string
  /** Authorities of clients' certificates; undefined: clients are not asked for one. */
  clientCa: string | undefined
  /** Of the service's own certificate. */
  notAfterMs: number
}

export interface CertificateFiles {
  certificate: string
  key: string
  clientCa: string | undefined
}

/** How long a certificate and a key that do not belong together are taken for a pair of which one is replaced before the other. */
const PAIR_GRACE_MS = 10_000
const PAIR_LOOK_MS = 500

type Read = { ok: true; material: Material } | { ok: false; faults: readonly string[]; isUnmatched?: boolean }

/** Reads the files of a service's certificate. A fault says what is wrong with which file, and nothing of what is in it. */
export function readMaterial(files: CertificateFiles): Read {
  const faults: string[] = []
  const read = (place: FilePlace, wanted: Wanted): string | undefined => {
    try {
      const bytes = readNamedFile(place.variable, place.file)
      const pem = bytes.toString('latin1')
      const fault = pemFault(bytes, wanted, place) ?? FURTHER[wanted]?.(pem, place)
      if (fault === undefined) return pem
      faults.push(fault)
    } catch (error) {
      if (!(error instanceof SecretFileError)) throw error
      faults.push(error.message)
    }
    return undefined
  }
  const [certificatePlace, keyPlace] = [
    { variable: 'TLS_CERTIFICATE_FILE', file: files.certificate },
    { variable: 'TLS_KEY_FILE', file: files.key },
  ]
  const certificate = read(certificatePlace, 'certificate')
  const key = read(keyPlace, 'key')
  const clientCa =
    files.clientCa === undefined
      ? undefined
      : read({ variable: 'TLS_CLIENT_CA_FILE', file: files.clientCa }, 'authorities')
  if (certificate === undefined || key === undefined || faults.length > 0) return { ok: false, faults }
  const unmatched = pairFault({ pem: certificate, place: certificatePlace }, { pem: key, place: keyPlace }, NO_PASSWORD)
  if (unmatched !== undefined) return { ok: false, faults: [unmatched], isUnmatched: true }
  const notAfterMs = ownerNotAfterMs(certificate)
  if (notAfterMs === undefined)
    return { ok: false, faults: [`TLS_CERTIFICATE_FILE=${files.certificate} has a certificate that cannot be read.`] }
  return { ok: true, material: { certificate, key, clientCa, notAfterMs } }
}

interface FilePlace {
  variable: string
  file: string
}

const NO_PASSWORD = { variable: '', value: undefined }

const encryptionFault = (pem: string, { variable, file }: FilePlace): string | undefined =>
  /-----BEGIN ENCRYPTED |^Proc-Type: 4,ENCRYPTED/m.test(pem)
    ? `${variable}=${file} is encrypted, and there is no variable for its password. Decrypt it: openssl pkey -in ${quoted(file)} -out ${quoted(`${file}.key.pem`)}`
    : undefined

/** What else is wrong with a listener's PEM of a kind. */
const FURTHER: { readonly [kind in Wanted]?: (pem: string, place: FilePlace) => string | undefined } = {
  key: encryptionFault,
  authorities: authoritiesFault,
}

/** Takes new material, or throws why it cannot; then what was there before stays. */
type Take = (material: Material) => void

/** The certificate of now. */
export class Certificates {
  readonly #files: CertificateFiles
  readonly #log: Logger
  readonly #takers: Take[] = []
  readonly #ending = new AbortController()
  #current: Material
  #fault: string | undefined
  /** What the log has said of that it has expired. */
  #toldOf: Material | undefined

  constructor(files: CertificateFiles, first: Material, log: Logger) {
    this.#files = files
    this.#current = first
    this.#log = log
    this.#tellExpired()
  }

  get current(): Material {
    return this.#current
  }

  /** @param take called with each later material, before it is the current one */
  onChange(take: Take): void {
    this.#takers.push(take)
  }

  /** Watches the files, and whether the certificate expires, until it is stopped. */
  async watch(pollMs = FILES_POLL_MS): Promise<void> {
    void this.#watchExpiry(pollMs)
    const { certificate, key, clientCa } = this.#files
    const paths = [certificate, key, ...(clientCa === undefined ? [] : [clientCa])]
    await watchFiles(paths, () => this.#readAgain(), this.#ending.signal, pollMs)
  }

  stop(): void {
    this.#ending.abort()
  }

  /** For /readyz: the port works as long as its certificate does, so that there is a detail at most. */
  state(): { ok: true; detail?: string } {
    const detail = this.#fault ?? this.#expired()
    return detail === undefined ? { ok: true } : { ok: true, detail }
  }

  /** Shows when the certificate expires, and whether the files are in use. */
  observe(registry: Registry): void {
    addListenerMetrics(registry, {
      isCurrent: () => this.#fault === undefined,
      notAfterMs: () => this.#current.notAfterMs,
    })
  }

  async #readAgain(): Promise<void> {
    const ending = this.#ending.signal
    let read = readMaterial(this.#files)
    for (
      let waitedMs = 0;
      !read.ok && read.isUnmatched === true && waitedMs < PAIR_GRACE_MS;
      waitedMs += PAIR_LOOK_MS
    ) {
      await sleep(PAIR_LOOK_MS, ending)
      read = readMaterial(this.#files)
    }
    if (ending.aborted) return
    if (!read.ok) return this.#refuse(read.faults.join('; '))
    const { material } = read
    if (isSame(material, this.#current)) {
      this.#fault = undefined
      return
    }
    try {
      for (const take of this.#takers) take(material)
    } catch (error) {
      return this.#refuse(messageOf(error))
    }
    this.#current = material
    this.#fault = undefined
    this.#log.info({ notAfter: new Date(material.notAfterMs).toISOString() }, 'a new certificate is in use')
    this.#tellExpired()
  }

  #refuse(fault: string): void {
    this.#fault = `what was read before is in use, since what the files for TLS have now cannot be: ${fault}`
    this.#log.error({ reason: fault }, 'changed files for TLS cannot be used; keeping what was read before')
  }

  #expired(): string | undefined {
    const { notAfterMs } = this.#current
    return notAfterMs > Date.now()
      ? undefined
      : `the certificate in TLS_CERTIFICATE_FILE=${this.#files.certificate} has expired, at ${new Date(notAfterMs).toISOString()}`
  }

  async #watchExpiry(pollMs: number): Promise<void> {
    const ending = this.#ending.signal
    while (!ending.aborted) {
      this.#tellExpired()
      await sleep(pollMs, ending)
    }
  }

  /** Once for each certificate. */
  #tellExpired(): void {
    const expired = this.#expired()
    if (expired === undefined || this.#toldOf === this.#current) return
    this.#toldOf = this.#current
    this.#log.error({ reason: expired }, 'clients will refuse the certificate')
  }
}

const isSame = (a: Material, b: Material): boolean =>
  a.certificate === b.certificate && a.key === b.key && a.clientCa === b.clientCa

/**
 * The certificate of a service's ports; undefined: they speak plain HTTP.
 * @throws ConfigError naming every fault of the files
 */
export function certificatesOf(config: Variables, log: Logger): Certificates | undefined {
  const { TLS_CERTIFICATE_FILE: certificate, TLS_KEY_FILE: key, TLS_CLIENT_CA_FILE: clientCa } = config
  if (certificate === undefined || key === undefined) return undefined
  const files = { certificate, key, clientCa }
  const read = readMaterial(files)
  if (!read.ok) throw new ConfigError(read.faults)
  return new Certificates(files, read.material, log)
}

export function addListenerMetrics(
  registry: Registry,
  { isCurrent, notAfterMs }: { isCurrent(): boolean; notAfterMs(): number },
): void {
  addCertificateMetric(registry, () => [{ certificate: 'listener', notAfterMs: notAfterMs() }])
  new Gauge({
    name: 'kafkatrace_listener_certificate_current',
    help: '0 while the files of TLS_CERTIFICATE_FILE, TLS_KEY_FILE or TLS_CLIENT_CA_FILE cannot be used, and what was read before is, else 1.',
    registers: [registry],
    collect() {
      this.set(isCurrent() ? 1 : 0)
    },
  })
}
