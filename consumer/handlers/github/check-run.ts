import { Type } from '@sinclair/typebox'
import { durationMs, known, Timestamp } from '../activity.ts'
import { githubHandler, Name, Nullable } from './webhook.ts'

/** A check of a commit was started, completed or requested again. */
export const checkRun = githubHandler(
  'check_run',
  '1',
  {
    action: Name,
    check_run: Type.Object({
      id: Type.Integer(),
      name: Name,
      head_sha: Name,
      status: Name,
      conclusion: Nullable(Name),
      html_url: Nullable(Type.String()),
      url: Type.String(),
      started_at: Timestamp,
      completed_at: Nullable(Timestamp),
      // head_branch is null for a commit from a fork.
      check_suite: Nullable(Type.Object({ head_branch: Nullable(Name) })),
      output: Nullable(Type.Object({ title: Nullable(Type.String()) })),
    }),
  },
  ({ action, check_run: run }) => ({
    verb: action,
    object: {
      kind: 'check_run',
      id: run.id,
      sha: run.head_sha,
      name: run.name,
      ...known({ title: run.output?.title }),
      url: run.html_url || run.url,
    },
    at: run.completed_at ?? run.started_at,
    details: known({
      state: run.status,
      conclusion: run.conclusion,
      branch: run.check_suite?.head_branch,
      durationMs: durationMs(run.started_at, run.completed_at),
    }),
  }),
)
