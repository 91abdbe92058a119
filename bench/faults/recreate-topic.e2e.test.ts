import { faultTest } from './fault-test.ts'

faultTest('recreate-topic', 'what is acknowledged by topics that were made again has its outcomes')
