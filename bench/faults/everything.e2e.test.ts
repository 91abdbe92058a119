import { faultTest } from './fault-test.ts'

faultTest('everything', 'the guarantees hold though every process is killed in any order while handlers fail')
