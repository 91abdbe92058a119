import { expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { commonConfig } from '../testing/common-config.ts'
import { securityOf } from './security.ts'

test('white space at the end of a password is warned of, without the password', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-security-'))
  const lines: string[] = []
  const log = pino({ base: null }, { write: (line: string) => void lines.push(line) })
  const warningsOf = (password: string): string[] => {
    const file = join(folder, 'password')
    writeFileSync(file, password)
    const config = commonConfig({
      KAFKA_BROKERS: 'a:1',
      KAFKA_SECURITY_PROTOCOL: 'sasl_ssl',
      KAFKA_SASL_USERNAME: 'me',
      KAFKA_SASL_PASSWORD_FILE: file,
    })
    lines.length = 0
    securityOf(config, log)
    return [...lines]
  }
  try {
    expect(warningsOf('hidden\n')).toEqual([])
    const [warning = '', ...more] = warningsOf('hidden \n')
    expect(JSON.parse(warning)).toMatchObject({
      level: 40,
      reason: expect.stringMatching(/^KAFKA_SASL_PASSWORD_FILE=\S+password has white space/),
    })
    expect(more).toEqual([])
    expect(warning).not.toContain('hidden')
  } finally {
    rmSync(folder, { recursive: true })
  }
})
