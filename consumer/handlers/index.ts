import { checkRun } from './github/check-run.ts'
import { deploymentStatus } from './github/deployment-status.ts'
import { issueComment } from './github/issue-comment.ts'
import { issues } from './github/issues.ts'
import { pullRequest } from './github/pull-request.ts'
import { push } from './github/push.ts'
import { release } from './github/release.ts'
import { workflowRun } from './github/workflow-run.ts'
import type { Handler } from './handler.ts'

/** The built-in handlers. An event of any other type passes through, enriched but otherwise unchanged. */
export const handlers: readonly Handler[] = [
  push,
  pullRequest,
  issues,
  issueComment,
  release,
  deploymentStatus,
  checkRun,
  workflowRun,
]
