import { faultTest } from './fault-test.ts'

faultTest('repeating-clients', 'events that clients send again take effect once')
