import { faultTest } from './fault-test.ts'

faultTest(
  'kill-consumer',
  'every event has one outcome, in the order of its key, though the consumer is killed ten times',
)
