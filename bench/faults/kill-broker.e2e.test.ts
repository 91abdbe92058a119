import { faultTest } from './fault-test.ts'

faultTest('kill-broker', 'nothing is lost or doubled though the broker is killed and comes back under load')
