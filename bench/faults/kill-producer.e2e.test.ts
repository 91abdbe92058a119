import { faultTest } from './fault-test.ts'

faultTest(
  'kill-producer',
  'what was acknowledged is in the log, and takes effect once, though the producer is killed under load',
)
