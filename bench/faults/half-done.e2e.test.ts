import { faultTest } from './fault-test.ts'

faultTest(
  'half-done',
  'every event has one outcome though the broker forgets to end a transaction, or ends it in some places only',
)
