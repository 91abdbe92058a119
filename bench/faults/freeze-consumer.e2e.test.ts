import { faultTest } from './fault-test.ts'

faultTest('freeze-consumer', 'a consumer that was frozen past its session neither loses nor repeats anything')
