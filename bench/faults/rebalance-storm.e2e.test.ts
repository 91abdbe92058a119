import { faultTest } from './fault-test.ts'

faultTest('rebalance-storm', 'consumers that join, leave and crash neither lose nor repeat anything')
