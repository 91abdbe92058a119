import { faultTest } from './fault-test.ts'

faultTest('falsified-offsets', 'events before an offset that another client has committed are processed all the same')
