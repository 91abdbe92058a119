import { faultTest } from './fault-test.ts'

faultTest('broker-absent', 'services that start without a broker refuse in time and begin when it comes')
