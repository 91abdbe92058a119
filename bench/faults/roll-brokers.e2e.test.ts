import { faultTest } from './fault-test.ts'

faultTest(
  'roll-brokers',
  'every event has one outcome, and commits go on in time, while the brokers are started anew one after the other',
  3,
)
