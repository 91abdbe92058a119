import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { settled } from '../../testing/settled.ts'
import { dockerAnswers, startRedpanda } from './redpanda.ts'

const path = process.env.PATH
let folder = ''

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kafkatrace-docker-'))
})

afterEach(() => {
  process.env.PATH = path
  rmSync(folder, { recursive: true })
})

/** A `docker` that notes how it was called and behaves as the shell script says. */
function fakeDocker(script: string): () => string {
  const calls = join(folder, 'calls')
  writeFileSync(calls, '')
  writeFileSync(join(folder, 'docker'), `#!/bin/sh\necho "$@" >>${calls}\n${script}\n`)
  chmodSync(join(folder, 'docker'), 0o755)
  process.env.PATH = `${folder}:/usr/bin:/bin`
  return () => readFileSync(calls, 'utf8')
}

describe('Docker', () => {
  test('that is not installed does not answer', async () => {
    process.env.PATH = folder
    expect(await dockerAnswers()).toBe(false)
    expect(await settled(startRedpanda())).toThrow('--broker kafka or --broker embedded')
  })

  test('without an engine behind it does not answer', async () => {
    fakeDocker('exit 1')
    expect(await dockerAnswers()).toBe(false)
  })

  test('with an engine starts Redpanda from compose.yaml, waits for it, and stops it', async () => {
    const calls = fakeDocker('exit 0')
    const broker = await startRedpanda()
    await broker.stop()
    expect(calls()).toMatch(/compose --file \S+\/compose\.yaml up --detach --wait redpanda\n/)
    expect(calls()).toMatch(/compose --file \S+\/compose\.yaml stop redpanda\n$/)
  })

  test('that cannot start Redpanda is quoted', async () => {
    fakeDocker('case "$1" in compose) echo "no such image" >&2; exit 14 ;; esac')
    expect(await settled(startRedpanda())).toThrow(/exited with 14:\nno such image/)
  })
})

describe('compose.yaml', () => {
  const file = readFileSync(join(import.meta.dir, '..', '..', '..', 'compose.yaml'), 'utf8')
  const { services } = Bun.YAML.parse(file) as {
    services: Record<string, { ports?: string[]; healthcheck?: unknown; command: string[]; image: string }>
  }

  test('publishes ports on loopback only', () => {
    const ports = Object.values(services).flatMap((service) => service.ports ?? [])
    expect(ports.length).toBeGreaterThan(0)
    expect(ports.filter((port) => !port.startsWith('127.0.0.1:'))).toEqual([])
  })

  test('has Redpanda where programs on this machine look for it, and says when it is healthy', async () => {
    fakeDocker('exit 0')
    const [host, port] = (await startRedpanda()).bootstrapServers.split(':')
    expect(services.redpanda?.ports).toContain(`${host}:${port}:${port}`)
    expect(services.redpanda?.command.join(' ')).toContain(`external://${host}:${port}`)
    expect(services.redpanda?.healthcheck).toBeDefined()
  })

  test('pins every image to a version', () => {
    for (const { image } of Object.values(services)) expect(image).toMatch(/:v?\d+\.\d+\.\d+$/)
  })
})
