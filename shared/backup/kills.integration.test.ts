import { test } from 'bun:test'
import { killedAtRandom } from './testing/on-a-broker.ts'

test('a hundred kills at any time, and the backup is whole', () => killedAtRandom(100), 400_000)
