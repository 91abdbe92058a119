import { faultTest } from './fault-test.ts'

faultTest('graceful-stop', 'a service that is told to stop ends with 0 in time and loses nothing')
