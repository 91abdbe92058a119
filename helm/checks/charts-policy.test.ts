import { expect, test } from 'bun:test'
import { strict } from './charts-crds.ts'
import { allows, hookFaults, podFaults } from './charts-policy.ts'
import { schemaOf } from './charts-schema.ts'

const labels = { app: 'a' }
const peer = { namespace: { 'kubernetes.io/metadata.name': 'kafka' }, pod: {} }
const port = { protocol: 'TCP', port: 9092 }
const policy = (egress: unknown[]) => [
  { spec: { podSelector: { matchLabels: labels }, policyTypes: ['Egress'], egress } },
]

test('a pod that no policy selects may do everything', () => {
  expect(allows(policy([]), { app: 'b' }, 'egress', peer, port)).toBe(true)
  expect(allows(policy([]), labels, 'ingress', peer, port)).toBe(true)
})

test('a pod that a policy selects may do what a rule names', () => {
  const rule = { to: [{ namespaceSelector: { matchLabels: peer.namespace } }], ports: [port] }
  expect(allows(policy([]), labels, 'egress', peer, port)).toBe(false)
  expect(allows(policy([rule]), labels, 'egress', peer, port)).toBe(true)
  expect(allows(policy([rule]), labels, 'egress', peer, { ...port, port: 1 })).toBe(false)
  expect(allows(policy([rule]), labels, 'egress', { ...peer, namespace: {} }, port)).toBe(false)
})

test('a rule with no peers names all of them', () => {
  expect(allows(policy([{ to: [], ports: [port] }]), labels, 'egress', peer, port)).toBe(true)
})

test('a selector of pods alone means the policy’s own namespace', () => {
  const rule = { to: [{ podSelector: {} }] }
  expect(allows(policy([rule]), labels, 'egress', peer, port)).toBe(false)
})

test('an address is reached by a block that has it, and by no selector', () => {
  const node = { namespace: {}, pod: {}, address: '169.254.20.10' }
  const block = { to: [{ ipBlock: { cidr: '169.254.20.10/32' } }] }
  expect(allows(policy([block]), labels, 'egress', node, port)).toBe(true)
  expect(allows(policy([block]), labels, 'egress', { ...node, address: '169.254.20.11' }, port)).toBe(false)
  expect(allows(policy([block]), labels, 'egress', peer, port)).toBe(false)
  expect(allows(policy([{ to: [{ namespaceSelector: {} }] }]), labels, 'egress', node, port)).toBe(false)
})

test('a selector that is not understood is not taken for one that names all', () => {
  const rule = { to: [{ namespaceSelector: { matchExpressions: [] } }] }
  expect(() => allows(policy([rule]), labels, 'egress', peer, port)).toThrow('matchExpressions')
})

test('a hook says why it failed, and does not stay', () => {
  const annotations = {
    'helm.sh/hook-delete-policy': 'before-hook-creation,hook-succeeded',
    'helm.sh/hook-output-log-policy': 'hook-succeeded,hook-failed',
  }
  const job = {
    kind: 'Job',
    metadata: { annotations },
    spec: { ttlSecondsAfterFinished: 1, activeDeadlineSeconds: 299 },
  }
  expect(hookFaults(job)).toEqual([])
  expect(hookFaults({ ...job, spec: {} })).toHaveLength(2)
  expect(hookFaults({ ...job, metadata: { annotations: {} } })).toHaveLength(3)
  expect(hookFaults({ ...job, kind: 'Pod' })).toHaveLength(1)
})

test('a pod that says nothing is at fault in everything', () => {
  const faults = podFaults({ metadata: {}, spec: { containers: [{ name: 'a' }] } })
  expect(faults).toContain('runs as root, or may')
  expect(faults).toContain('a has no memory limit')
  expect(faults).toContain('a is killed before it has drained')
  const constraint = { topologyKey: 'topology.kubernetes.io/zone', whenUnsatisfiable: 'DoNotSchedule' }
  expect(podFaults({ metadata: {}, spec: { containers: [], topologySpreadConstraints: [constraint] } })).toContain(
    'stays pending on nodes without the label topology.kubernetes.io/zone',
  )
  expect(podFaults({ metadata: {}, spec: { containers: [{ name: 'a' }] } }, true)).not.toContain(
    'a has no startup probe',
  )
})

test('a schema takes no property that the defaults have not', () => {
  expect(schemaOf({ a: { b: '' } }, '', { 'a.b': { enum: ['x'] } })).toEqual({
    type: 'object',
    additionalProperties: false,
    properties: { a: { type: 'object', additionalProperties: false, properties: { b: { enum: ['x'] } } } },
  })
  expect(() => schemaOf({ a: null }, '', {})).toThrow('a has no default')
})

test('a strict schema closes objects that name their properties, unless they are open by their own word', () => {
  const object = { type: 'object', properties: { a: {} } }
  expect(strict({ items: object })).toEqual({ items: { ...object, additionalProperties: false } })
  const kept = { ...object, 'x-kubernetes-preserve-unknown-fields': true }
  expect(strict(kept)).toEqual(kept)
})
