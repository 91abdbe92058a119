import { faultTest } from './fault-test.ts'

faultTest('poison', 'a poison record becomes a dead letter, byte for byte, and does not stop its partition')
