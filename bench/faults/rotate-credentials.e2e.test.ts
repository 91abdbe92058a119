import { faultTest } from './fault-test.ts'

faultTest(
  'rotate-credentials',
  'credentials are replaced under load: nothing is lost, and nobody is refused who should not be',
)
