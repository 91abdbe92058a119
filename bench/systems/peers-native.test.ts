import { expect, test } from 'bun:test'
import { settled } from '../../shared/testing/settled.ts'
import { goVersions, NATIVE_PEERS } from './peers-native.ts'

test('versions are those that a binary was built with', () => {
  const printed = [
    '/cache/bench/go-franz/go-franz: go1.26.8',
    '\tpath\tkafkatrace/bench/peers/go-franz',
    '\tdep\tgithub.com/google/uuid\tv1.6.0\th1:abc=',
    '\tdep\tgithub.com/twmb/franz-go\tv1.22.3\th1:def=',
    '\tbuild\t-trimpath=true',
  ].join('\n')
  expect(goVersions(printed, ['github.com/twmb/franz-go'])).toEqual({
    go: '1.26.8',
    'github.com/twmb/franz-go': 'v1.22.3',
  })
})

test('a peer whose jars cannot be had says so', async () => {
  const bridge = NATIVE_PEERS.find(({ facts }) => facts.name === 'strimzi-bridge')
  expect(await settled(bridge?.prepare(() => undefined))).toThrow('No versions available for io.strimzi:kafka-bridge')
})
