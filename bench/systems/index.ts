export { DRAINS } from './drains.ts'

import { KAFKATRACE } from './kafkatrace.ts'
import { LIMIT_TOOLS, LIMITS } from './limits.ts'
import { JAVASCRIPT_PEERS } from './peers-javascript.ts'
import { NATIVE_PEERS } from './peers-native.ts'
import { PYTHON_PEERS } from './peers-python.ts'
import type { LimitTool, System } from './system.ts'

/** Everything that can be measured, in the order of a report. */

export const SYSTEMS: readonly System[] = [KAFKATRACE, ...PYTHON_PEERS, ...JAVASCRIPT_PEERS, ...NATIVE_PEERS, ...LIMITS]

export const TOOLS: readonly LimitTool[] = LIMIT_TOOLS
