import { Type } from '@sinclair/typebox'
import { Count, durationMs, known, Timestamp } from '../activity.ts'
import { githubHandler, Name, Nullable } from './webhook.ts'

/** A workflow run was requested, started or completed. */
export const workflowRun = githubHandler(
  'workflow_run',
  '1',
  {
    action: Name,
    workflow_run: Type.Object({
      id: Type.Integer(),
      run_number: Count,
      run_attempt: Nullable(Count),
      name: Nullable(Type.String()),
      display_title: Nullable(Type.String()),
      // null when the branch was deleted, or when a tag triggered the run.
      head_branch: Nullable(Name),
      head_sha: Name,
      event: Nullable(Name),
      status: Nullable(Name),
      // null until it has completed.
      conclusion: Nullable(Name),
      html_url: Type.String(),
      run_started_at: Nullable(Timestamp),
      updated_at: Timestamp,
    }),
  },
  ({ action, workflow_run: run }) => ({
    verb: action,
    object: {
      kind: 'workflow_run',
      number: run.run_number,
      id: run.id,
      sha: run.head_sha,
      ...known({ name: run.name, title: run.display_title }),
      url: run.html_url,
    },
    at: run.updated_at,
    details: known({
      state: run.status,
      conclusion: run.conclusion,
      branch: run.head_branch,
      trigger: run.event,
      attempt: run.run_attempt,
      durationMs: action === 'completed' ? durationMs(run.run_started_at, run.updated_at) : undefined,
    }),
  }),
)
