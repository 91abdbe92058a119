import { expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { until } from '../testing/until.ts'
import { Certificates, certificateFaults, readMaterial } from './certificates.ts'

test('variables that need each other are named', () => {
  expect(certificateFaults({ OPS_TLS: 'off' })).toEqual([])
  const all = { TLS_CERTIFICATE_FILE: 'a', TLS_KEY_FILE: 'b', TLS_CLIENT_CA_FILE: 'c' }
  expect(certificateFaults({ OPS_TLS: 'on', ...all })).toEqual([])
  const together = 'TLS_CERTIFICATE_FILE and TLS_KEY_FILE go together: set both or neither.'
  expect(certificateFaults({ OPS_TLS: 'off', TLS_CERTIFICATE_FILE: 'a' })).toEqual([together])
  expect(certificateFaults({ OPS_TLS: 'off', TLS_KEY_FILE: 'a' })).toEqual([together])
  expect(certificateFaults({ OPS_TLS: 'on' })).toEqual(['OPS_TLS is on, and TLS_CERTIFICATE_FILE is not set.'])
  expect(certificateFaults({ OPS_TLS: 'off', TLS_CLIENT_CA_FILE: 'a' })).toHaveLength(1)
})

test('each file that cannot be used is named, with what is wrong and nothing of what is in it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-certificates-'))
  try {
    const file = (name: string, content: string): string => {
      writeFileSync(join(folder, name), content)
      return join(folder, name)
    }
    // DER, an empty sequence.
    const block = (label: string): string => `-----BEGIN ${label}-----\nMAA=\n-----END ${label}-----\n`
    const [key, certificate] = [file('key', block('PRIVATE KEY')), file('certificate', block('CERTIFICATE'))]
    const encrypted = file('encrypted', block('ENCRYPTED PRIVATE KEY'))
    const old = file('old', block('RSA PRIVATE KEY').replace('MAA=', 'Proc-Type: 4,ENCRYPTED\n\nMAA='))
    const cases: [certificate: string, key: string, clientCa: string | undefined, fault: RegExp][] = [
      [join(folder, 'absent'), key, undefined, /^TLS_CERTIFICATE_FILE=\S+absent cannot be read: ENOENT$/],
      [key, key, undefined, /^TLS_CERTIFICATE_FILE=\S+key has .*PRIVATE KEY/],
      [certificate, key, undefined, /^TLS_CERTIFICATE_FILE=\S+certificate has a certificate that cannot be read/],
      [certificate, certificate, undefined, /^TLS_KEY_FILE=\S+certificate has /],
      [
        certificate,
        encrypted,
        undefined,
        /^TLS_KEY_FILE=\S+encrypted is encrypted.*openssl pkey -in (\S+encrypted) -out \1\.key\.pem$/,
      ],
      [certificate, old, undefined, /^TLS_KEY_FILE=\S+old is encrypted.*openssl pkey -in (\S+old) -out \1\.key\.pem$/],
      [certificate, key, key, /^TLS_CLIENT_CA_FILE=\S+key has /],
    ]
    for (const [certificate, key, clientCa, fault] of cases) {
      const read = readMaterial({ certificate, key, clientCa })
      const said = read.ok ? '' : read.faults.join('; ')
      expect(said).toMatch(fault)
      expect(said).not.toContain('MAA=')
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a certificate that expires while it is in use is said in the log, once', async () => {
  const lines: string[] = []
  const log = pino({ level: 'error' }, { write: (line: string) => void lines.push(line) })
  const said = (): string[] => lines.filter((line) => line.includes('clients will refuse the certificate'))
  const expiresAtMs = Date.now() + 50
  let looks = 0
  const material = {
    certificate: '',
    key: '',
    clientCa: undefined,
    get notAfterMs() {
      if (Date.now() > expiresAtMs) looks++
      return expiresAtMs
    },
  }
  const certificates = new Certificates({ certificate: '/absent', key: '/absent', clientCa: undefined }, material, log)
  expect(said()).toEqual([])
  try {
    await certificates.watch(1)
    await until(() => looks > 10, { timeoutMs: 2_000, what: 'looks at the expiry' })
    expect(said()).toHaveLength(1)
    expect(said()[0]).toContain(new Date(expiresAtMs).toISOString())
  } finally {
    certificates.stop()
  }
})
