import { faultTest } from './fault-test.ts'

faultTest('rolling-update', 'no request fails while producers and consumers are replaced')
