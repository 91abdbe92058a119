import { expect, test } from 'bun:test'
import { quantity, requested } from './charts-requests.ts'

const pod = (cpu: string, memory: string) => ({ spec: { containers: [{ resources: { requests: { cpu, memory } } }] } })

test('requests are those of all pods, with what an upgrade and autoscalers add', () => {
  const manifests = [
    {
      kind: 'Deployment',
      metadata: { name: 'a' },
      spec: { replicas: 2, strategy: { rollingUpdate: { maxSurge: 1 } }, template: pod('100m', '512Mi') },
    },
    { kind: 'StatefulSet', metadata: { name: 'b' }, spec: { template: pod('1', '1Gi') } },
    {
      kind: 'ScaledObject',
      spec: { scaleTargetRef: { kind: 'StatefulSet', name: 'b' }, minReplicaCount: 2, maxReplicaCount: 6 },
    },
    { kind: 'Job', metadata: { name: 'c' }, spec: { template: pod('200m', '64Mi') } },
  ]
  expect(requested(manifests)).toEqual({
    least: { pods: 4, cpuMillis: 2_200, memoryMebibytes: 3_072 },
    most: { pods: 8, cpuMillis: 6_200, memoryMebibytes: 7_168 },
    upgrading: { pods: 1, cpuMillis: 200, memoryMebibytes: 512 },
  })
})

test('a quantity that is not understood is not guessed', () => expect(() => quantity('1e3')).toThrow('1e3'))
