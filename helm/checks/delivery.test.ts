import { describe, expect, test } from 'bun:test'
import { commandsIn, forwardFaults, helmOptions, templateOf, wordsOf } from './delivery-docs.ts'
import { allowedBy, filledIn, manifestsOf, neverMade, substituted, textsIn } from './delivery-gitops.ts'
import { imagePins, imagesIn } from './delivery-pins.ts'
import { pinsFound } from './delivery-renovate.ts'
import { strict } from './delivery-schemas.ts'
import { alternatives, bunVersions, pinFaults, workflowFaults } from './delivery-workflows.ts'

const repository = { scripts: new Set(['test']), has: (path: string) => path === 'helm/charts/a' }
const hash = 'a'.repeat(40)
const right = `
permissions: {}
concurrency: x
jobs:
  one:
    timeout-minutes: 5
    permissions: { contents: read }
    steps:
      - uses: actions/checkout@${hash} # v7.0.0
        with: { persist-credentials: false }
      - run: bun run test helm/charts/a
`
const faultsOf = (text: string): string[] => workflowFaults('w.yml', text, repository).faults

describe('a workflow', () => {
  test('that fits has no faults', () => expect(faultsOf(right)).toEqual([]))

  test.each([
    ['permissions: {}', 'permissions: write-all', 'permissions at the top'],
    ['concurrency: x', '', 'no concurrency'],
    ['    timeout-minutes: 5\n', '', 'no timeout-minutes'],
    ['    permissions: { contents: read }\n', '', 'names no permissions'],
    ['{ persist-credentials: false }', '{ fetch-depth: 0 }', 'leaves its token behind'],
    ['bun run test', 'bun run tset', 'bun run tset'],
    ['bun run test', 'gh release upload v1', 'publishes files that it does not attest'],
    ['helm/charts/a', 'helm/charts/{a,b}', 'helm/charts/b'],
    [`@${hash} # v7.0.0`, '@v7', 'not pinned'],
    [' # v7.0.0', '', 'not pinned'],
    [`actions/checkout@${hash} # v7.0.0`, './.github/actions/none', 'which is not there'],
  ])('with %p made %p is at fault', (good, bad, fault) => {
    expect(right).toContain(good)
    const faults = faultsOf(right.replace(good, bad))
    expect(faults.join('\n')).toContain(fault)
  })
})

test('one action has one version', () => {
  const use = (version: string): string => `- uses: a/b/init@${hash} # ${version}`
  expect(pinFaults({ x: use('v1.0.0'), y: use('v1.0.0') })).toEqual([])
  expect(pinFaults({ x: use('v1.0.0'), y: use('v1.0.1') })).toHaveLength(1)
})

describe('an image of others', () => {
  const digest = `sha256:${'a'.repeat(64)}`

  test('is found in a Dockerfile, where it is no earlier stage', () => {
    const text = `FROM --platform=linux/amd64 a/b:1 AS one\nFROM one AS two\nCOPY --from=two /x /x\nCOPY --chown=1 --from=c/d:2 /y /y\nFROM scratch\nFROM ghcr.io/kafkatrace/consumer:0.1.0\n`
    expect(imagesIn('x/Dockerfile', text)).toEqual(['a/b:1', 'c/d:2'])
  })

  test('is found in YAML, where it is no template’s', () => {
    const text = `image: a/b:1\n  - image: "c/d:2"\nimage: {{ include "e" . }}\nimage: {repository: f}\nuses: docker://g/h:3\ncontainer: i/j:4\nimage:\n  repository: k\nimage: # l\nimage: ghcr.io/kafkatrace/producer:1\n`
    expect(imagesIn('compose.yaml', text)).toEqual(['a/b:1', 'c/d:2', 'g/h:3', 'i/j:4'])
  })

  test('is pinned by its digest, or its name is a fault', () => {
    const faultsOf = (image: string) => imagePins({ x: [image] }).faults.filter((fault) => fault.startsWith('x: '))
    expect(faultsOf(`a/b:1@${digest}`)).toEqual([])
    expect(faultsOf(`a/b@${digest}`)).toEqual([])
    expect(faultsOf('a/b:1')).toEqual(['x: a/b:1 is not pinned: name@sha256:…'])
    expect(faultsOf(`a/b:1@${digest.slice(0, -1)}`)).toHaveLength(1)
    expect(faultsOf('registry:5000/a')).toHaveLength(1)
  })

  test('that has no digest yet is said to be not checked, and once it has one, so is that', () => {
    const { passed, faults, notChecked } = imagePins({ x: ['oven/bun:1.4.5-slim', `prom/prometheus:v3@${digest}`] })
    expect([passed, notChecked]).toEqual([1, ['oven/bun has no digest yet: Renovate adds it']])
    expect(faults).toContain('prom/prometheus has its digest, or is gone: remove it from helm/checks/delivery-pins.ts')
    expect(faults.some((fault) => fault.startsWith('oven/bun '))).toBe(false)
  })
})

test('braces are alternatives', () => expect(alternatives('a/{b,c}/d')).toEqual(['a/b/d', 'a/c/d']))

test('versions of Bun are found beside its name only', () => {
  expect(bunVersions('npx -y bun@1.4.5 run x; FROM oven/bun:1.4.4-slim; bundle 1.2.3')).toEqual(['1.4.5', '1.4.4'])
})

test('a manager of Renovate names what it finds, by expression', () => {
  const manager = {
    description: 'x',
    managerFilePatterns: [],
    matchStrings: ["go: '(?<depName>[^']+)', version: '(?<currentValue>[^']+)'", 'bun@(?<currentValue>\\S+)'],
    depNameTemplate: 'bun',
  }
  expect(pinsFound(manager, "{ go: 'a/b', version: 'v1' } bun@1.2.3")).toEqual([['a/b@v1'], ['bun@1.2.3']])
  expect(pinsFound(manager, 'nothing')).toEqual([[], []])
})

describe('GitOps', () => {
  test('a variable without a value stays', () => expect(substituted(`\${A}-\${B}`, { A: 'x' })).toBe(`x-\${B}`))

  test('a project allows the kinds that it names', () => {
    const [project] = manifestsOf(`
apiVersion: v1
kind: AppProject
metadata: { name: x }
spec: { namespaceResourceWhitelist: [{ group: '', kind: Secret }, { group: apps, kind: Deployment }] }`)
    if (project === undefined) throw new Error('no project')
    expect(allowedBy(project, { apiVersion: 'v1', kind: 'Secret' })).toBe(true)
    expect(allowedBy(project, { apiVersion: 'apps/v1', kind: 'Deployment' })).toBe(true)
    expect(allowedBy(project, { apiVersion: 'apps/v1', kind: 'Secret' })).toBe(false)
    expect(neverMade(project, [{ apiVersion: 'v1', kind: 'Secret' }])).toEqual(['apps/Deployment'])
  })

  test('a patch that is not for an environment is empty there', () => {
    const patch = '{{- if ne .environment "dev" }}\na: {{ .environment }}\n{{- end }}\n'
    expect(filledIn(patch, 'dev').trim()).toBe('')
    expect(filledIn(patch, 'staging').trim()).toBe('a: staging')
    const more = '  {{- if eq .environment "staging" }}\nb: 1\n  {{- end }}\n'
    expect(filledIn(patch + more, 'staging')).toBe('\na: staging\nb: 1\n')
    expect(filledIn(patch + more, 'production')).toBe('\na: production\n')
  })

  test('values are found at any depth', () => expect(textsIn({ a: { b: 'k', c: [1, 'd'] } })).toEqual(['k', 'd']))

  test('a schema of known fields refuses others, unless it keeps what it does not know', () => {
    const properties = { a: { type: 'object', properties: { b: {} } } }
    expect(strict({ properties })).toMatchObject({
      additionalProperties: false,
      properties: { a: { additionalProperties: false } },
    })
    expect(strict({ properties, 'x-kubernetes-preserve-unknown-fields': true })).not.toHaveProperty(
      'additionalProperties',
    )
  })
})

describe('a command of the documentation', () => {
  test('is found whole, without comments and here-documents', () => {
    const text = "```sh\n# no\na b \\\n  c\ncat <<'EOF'\nhelm no\nEOF\nd\n```\n```json\nhelm no\n```\n"
    expect(commandsIn(text)).toEqual(['a b c', "cat <<'EOF'", 'd'])
  })

  test('has words as the shell sees them', () =>
    expect(wordsOf(`a --set 'b=c d'  --e="f g" # h`)).toEqual(['a', '--set', 'b=c d', '--e=f g']))

  test('that installs is one that renders', () => {
    const words = wordsOf(
      'helm upgrade --install kt oci://ghcr.io/kafkatrace/charts/kafkatrace --version 0.1.0 --namespace n --wait --set a=b',
    )
    expect(templateOf(words, (name) => `/charts/${name}`)).toEqual([
      'template',
      'kt',
      '/charts/kafkatrace',
      '--namespace',
      'n',
      '--set',
      'a=b',
    ])
    expect(templateOf(['helm', 'test', 'kt'], String)).toBeUndefined()
    expect(helmOptions(words)).toEqual({
      command: 'upgrade',
      options: ['--install', '--version', '--namespace', '--wait', '--set'],
    })
  })

  test('forwards to a port that is there', () => {
    const containers = [{ ports: [{ name: 'ops', containerPort: 9081 }] }]
    const there = [
      { kind: 'Service', metadata: { name: 'a' }, spec: { ports: [{ name: 'http', port: 80, targetPort: 8080 }] } },
      { kind: 'StatefulSet', metadata: { name: 'a' }, spec: { template: { spec: { containers } } } },
    ]
    const faultsOf = (args: string) => forwardFaults(wordsOf(`kubectl -n kt port-forward ${args}`), there)
    expect(faultsOf('svc/a 8080:80 &')).toEqual([])
    expect(faultsOf('svc/a http')).toEqual([])
    expect(faultsOf('statefulset/a 9081')).toEqual([])
    expect(faultsOf('"$1" 9081')).toEqual([])
    expect(faultsOf('svc/a 8080:8080')).toEqual(['forwards to port 8080 of svc/a, which has http, 80'])
    expect(faultsOf('svc/b 80')).toEqual(['forwards to svc/b, which its helm commands do not create'])
  })
})
