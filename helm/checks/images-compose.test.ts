import { describe, expect, test } from 'bun:test'
import {
  type Compose,
  type ComposeService,
  composeFaults,
  durationMs,
  environmentOf,
  exampleFaults,
  parseEnv,
  variablesOf,
} from './images-compose.ts'

const good: ComposeService = {
  image: 'example.com/one:1.2.3',
  restart: 'unless-stopped',
  read_only: true,
  cap_drop: ['ALL'],
  security_opt: ['no-new-privileges:true'],
  cpus: 0.5,
  mem_limit: '256m',
  pids_limit: 100,
  healthcheck: { test: ['CMD', 'probe'] },
}

const surroundings = {
  exists: (path: string) => path.startsWith('./there'),
  stages: ['one'],
  writesItsRoot: ['writer'],
}

const faultsOf = (changes: ComposeService, others: Compose['services'] = {}): string[] =>
  composeFaults({ services: { one: { ...good, ...changes }, ...others } }, surroundings)

describe('a service of compose.yaml', () => {
  test('that is contained, probed and bounded has no faults', () => {
    expect(faultsOf({})).toEqual([])
  })

  const wrong: [what: string, changes: ComposeService, fault: RegExp][] = [
    ['is probed unless it ends', { healthcheck: {} }, /no healthcheck/],
    ['is started again unless it ends', { restart: 'always' }, /restart/],
    ['is pinned to a version', { image: 'example.com/one:latest' }, /not pinned/],
    ['is pinned to all of a version', { image: 'example.com/one:1.2' }, /not pinned/],
    ['has a bound on processors', { cpus: 0 }, /cpus/],
    ['has a bound on memory', { mem_limit: '' }, /mem_limit/],
    ['has a bound on processes', { pids_limit: -1 }, /pids_limit/],
    ['drops its capabilities', { cap_drop: ['NET_RAW'] }, /cap_drop/],
    ['takes none back', { cap_add: ['NET_RAW'] }, /cap_add/],
    ['gains no privileges', { security_opt: [] }, /no-new-privileges/],
    ['is not privileged', { privileged: true }, /privileged/],
    ['has a network of its own', { network_mode: 'host' }, /network_mode host/],
    ['cannot write to its root file system', { read_only: false }, /not read_only/],
    ['publishes ports on loopback', { ports: ['80:80'] }, /not on loopback/],
    ['is built from a Dockerfile that is there', { build: { dockerfile: 'no', target: 'one' } }, /there is no no/],
    ['is built from a stage that is there', { build: { dockerfile: './there', target: 'two' } }, /no stage two/],
    ['mounts what is there', { volumes: ['./no:/x:ro'] }, /does not exist/],
    ['mounts what is there by default', { volumes: [`\${FOLDER:-./no}:/x:ro`] }, /does not exist/],
    ['mounts files read-only', { volumes: ['./there:/x'] }, /not mounted read-only/],
    ['mounts declared volumes', { volumes: ['data:/x'] }, /not declared/],
    ['mounts nothing of the machine', { volumes: ['/etc:/x:ro'] }, /\/etc of the machine/],
    ['reads logs in a profile only', { volumes: ['/var/run/docker.sock:/x:ro'] }, /has no profile/],
    ['depends on what is there', { depends_on: { two: { condition: 'service_healthy' } } }, /does not exist/],
    ['depends under a condition', { depends_on: ['two'] }, /without conditions/],
  ]
  test.each(wrong)('%s', (_, changes, fault) => {
    expect(faultsOf(changes)).toEqual([expect.stringMatching(fault)])
  })

  test('that ends needs no probe, and is waited for until it has ended', () => {
    const others = { two: { ...good, restart: 'no', healthcheck: {} } }
    expect(faultsOf({ depends_on: { two: { condition: 'service_completed_successfully' } } }, others)).toEqual([])
    expect(faultsOf({ depends_on: { two: { condition: 'service_healthy' } } }, others)).toHaveLength(1)
    expect(faultsOf({ depends_on: { two: null } }, others)).toHaveLength(1)
  })

  test('depends on no service that its profile does not start', () => {
    const others = { two: { ...good, profiles: ['logs'] } }
    const depends_on = { two: { condition: 'service_healthy' } }
    expect(faultsOf({ depends_on }, others)).toHaveLength(1)
    expect(faultsOf({ depends_on, profiles: ['other'] }, others)).toHaveLength(1)
    expect(faultsOf({ depends_on, profiles: ['logs'] }, others)).toEqual([])
  })

  test('that writes its root is an exception only as long as it does', () => {
    const services = { writer: { ...good, read_only: false } }
    expect(composeFaults({ services }, surroundings)).toEqual([])
    expect(composeFaults({ services: { writer: good } }, surroundings)).toHaveLength(1)
  })

  test('uses every volume', () => {
    const services = { one: { ...good, volumes: ['data:/x'] } }
    expect(composeFaults({ services, volumes: { data: null, other: null } }, surroundings)).toEqual([
      'volume other is not used',
    ])
  })
})

describe('the variables of compose.yaml', () => {
  test('are found with their defaults, and a doubled $ is none', () => {
    expect([...variablesOf(`a: \${A:-1}\nb: \${B}\nc: $\${C:-2}`)]).toEqual([
      ['A', '1'],
      ['B', ''],
    ])
  })

  test('stand in .env.example with the same defaults, and no others', () => {
    expect(exampleFaults(`\${A:-1}`, '# a\nA=1\n')).toEqual([])
    expect(exampleFaults(`\${A:-1}`, 'A=2')).toEqual(['A is 1 in compose.yaml and 2 in .env.example'])
    expect(exampleFaults(`\${A:-1}`, '')).toEqual(['A is read by compose.yaml and not in .env.example'])
    expect(exampleFaults('', 'A=1')).toEqual(['A is in .env.example and compose.yaml does not read it'])
  })

  test('are put into the environment', () => {
    const environment = { LEVEL: `\${L:-info}`, MORE: `\${M:-x}`, PORT: 80 }
    expect(environmentOf({ environment }, parseEnv('L=debug'))).toEqual({ LEVEL: 'debug', MORE: 'x', PORT: '80' })
  })
})

test('a duration is read in its unit', () => {
  expect([durationMs('20s'), durationMs('150ms'), durationMs('2m'), durationMs('soon'), durationMs(undefined)]).toEqual(
    [20_000, 150, 120_000, undefined, undefined],
  )
})
