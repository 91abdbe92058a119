import { expect, test } from 'bun:test'
import { strict } from './charts-crds.ts'
import { allows, podFaults } from './charts-policy.ts'
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

test('a pod that says nothing is at fault in everything', () => {
  const faults = podFaults({ metadata: {}, spec: { containers: [{ name: 'a' }] } })
  expect(faults).toContain('runs as root, or may')
  expect(faults).toContain('a has no memory limit')
  expect(faults).toContain('a is killed before it has drained')
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
