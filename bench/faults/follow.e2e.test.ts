import { faultTest } from './fault-test.ts'

faultTest('follow', 'a reader of outcomes gets each once and in order, however it is cut off')
