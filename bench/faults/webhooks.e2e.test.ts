import { faultTest } from './fault-test.ts'

faultTest(
  'webhooks',
  'every delivery of a sender that sends again until it is answered has one outcome, though the producer is killed, and nothing with a wrong signature is stored',
)
