import { faultTest } from './fault-test.ts'

faultTest(
  'freeze-broker',
  'every event has one outcome, and commits go on in time, though brokers that coordinate and lead are frozen',
  3,
)
