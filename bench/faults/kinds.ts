import { FAULT_TYPE } from '../../consumer/testing/faulty-handlers.ts'
import type { Kind } from './load.ts'

/** Events for the misbehaving handlers, with their expected outcomes. */

export const kind = (name: string, expected: Kind['expected'], weight: number, data: Kind['data']): Kind => ({
  type: FAULT_TYPE + name,
  expected,
  weight,
  data,
})

/** Handlers that succeed after a few attempts, at once or from `.retry`, within the attempt limit. */
export const SOMETIMES = kind('sometimes', 'processed', 1, (random) => ({ failures: random.integer(0, 4), workMs: 0 }))
export const ALWAYS = kind('always', 'dead', 1, () => ({ failures: 0, workMs: 0 }))
export const SLOW = kind('slow', 'processed', 1, (random) => ({
  failures: random.integer(0, 1),
  workMs: random.integer(1, 60),
}))
