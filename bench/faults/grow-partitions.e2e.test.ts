import { faultTest } from './fault-test.ts'

faultTest('grow-partitions', 'a stream gets more partitions under load, and events in them have their outcomes')
