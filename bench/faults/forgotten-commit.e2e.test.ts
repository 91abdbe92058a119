import { faultTest } from './fault-test.ts'

faultTest(
  'forgotten-commit',
  'every event has one outcome though the broker forgets to end a transaction that it counts as committed',
)
