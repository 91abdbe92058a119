import { expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { certificateFaults, readMaterial } from './certificates.ts'

test('variables that need each other are named', () => {
  expect(certificateFaults({ OPS_TLS: 'off' })).toEqual([])
  expect(
    certificateFaults({ OPS_TLS: 'on', TLS_CERTIFICATE_FILE: 'a', TLS_KEY_FILE: 'b', TLS_CLIENT_CA_FILE: 'c' }),
  ).toEqual([])
  const together = 'TLS_CERTIFICATE_FILE and TLS_KEY_FILE go together: set both or neither.'
  expect(certificateFaults({ OPS_TLS: 'off', TLS_CERTIFICATE_FILE: 'a' })).toEqual([together])
  expect(certificateFaults({ OPS_TLS: 'off', TLS_KEY_FILE: 'a' })).toEqual([together])
  expect(certificateFaults({ OPS_TLS: 'on' })).toEqual(['OPS_TLS is on, and TLS_CERTIFICATE_FILE is not set.'])
  expect(certificateFaults({ OPS_TLS: 'off', TLS_CLIENT_CA_FILE: 'a' })).toHaveLength(1)
})

test('each file that cannot be used is named, with what is wrong and nothing of what is in it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-certificates-'))
  try {
    const file = (name: string, content: string | Uint8Array): string => {
      writeFileSync(join(folder, name), content)
      return join(folder, name)
    }
    const block = (label: string): string => `-----BEGIN ${label}-----\nc2VjcmV0\n-----END ${label}-----\n`
    const key = file('key', block('PRIVATE KEY'))
    const certificate = file('certificate', block('CERTIFICATE'))
    const cases: [certificate: string, key: string, fault: RegExp][] = [
      [join(folder, 'absent'), key, /^TLS_CERTIFICATE_FILE=\S+absent cannot be read: .*ENOENT/],
      [file('empty', ''), key, /^TLS_CERTIFICATE_FILE=\S+empty /],
      [file('der', Uint8Array.of(0x30, 0x82, 1, 0)), key, /^TLS_CERTIFICATE_FILE=\S+der .*openssl x509 -inform der/],
      [key, key, /^TLS_CERTIFICATE_FILE=\S+key /],
      [certificate, key, /^TLS_CERTIFICATE_FILE=\S+certificate /],
      [certificate, certificate, /TLS_KEY_FILE=\S+certificate /],
      [certificate, file('encrypted', block('ENCRYPTED PRIVATE KEY')), /TLS_KEY_FILE=\S+encrypted .*openssl pkey/],
    ]
    for (const [certificate, key, fault] of cases) {
      const read = readMaterial({ certificate, key, clientCa: undefined })
      const said = read.ok ? '' : read.faults.join('; ')
      expect(said).toMatch(fault)
      expect(said).not.toContain('c2VjcmV0')
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})
