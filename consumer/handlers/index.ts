import { checkRun } from './github/check-run.ts'
import { deploymentStatus } from './github/deployment-status.ts'
import { issueComment } from './github/issue-comment.ts'
import { issues } from './github/issues.ts'
import { pullRequest } from './github/pull-request.ts'
import { push } from './github/push.ts'
import { release } from './github/release.ts'
import { workflowRun } from './github/workflow-run.ts'
import type { Handler } from './handler.ts'

/** The handlers that ship. Add yours here; an event of any other type passes through, enriched and otherwise as it was. */
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
