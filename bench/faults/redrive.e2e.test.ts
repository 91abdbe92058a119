import { faultTest } from './fault-test.ts'

faultTest(
  'redrive',
  'each dead letter is redriven once and in order though consoles, consumers and the broker are killed',
)
