import { faultTest } from './fault-test.ts'

faultTest('failing-handlers', 'a handler that fails holds back its own key only, and every event has its outcome')
