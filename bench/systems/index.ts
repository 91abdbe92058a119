import { KAFKATRACE } from './kafkatrace.ts'
import type { LimitTool, System } from './system.ts'

/** Everything that can be measured. */

export const SYSTEMS: readonly System[] = [KAFKATRACE]

export const TOOLS: readonly LimitTool[] = []
