import { Type } from '@sinclair/typebox'
import { Count, known, Timestamp } from '../activity.ts'
import { Account, githubHandler, Name, Nullable } from './webhook.ts'

/** A pull request was opened, changed, merged or closed, or a review was requested. */
export const pullRequest = githubHandler(
  'pull_request',
  '1',
  {
    action: Name,
    pull_request: Type.Object({
      number: Count,
      title: Type.String(),
      html_url: Type.String(),
      state: Name,
      draft: Nullable(Type.Boolean()),
      merged: Nullable(Type.Boolean()),
      updated_at: Timestamp,
      head: Type.Object({ ref: Name, sha: Name }),
      base: Type.Object({ ref: Name }),
      commits: Nullable(Count),
      additions: Nullable(Count),
      deletions: Nullable(Count),
      changed_files: Nullable(Count),
      comments: Nullable(Count),
    }),
    label: Nullable(Type.Object({ name: Name })),
    assignee: Nullable(Account),
  },
  ({ action, pull_request: pr, label, assignee }) => ({
    // GitHub says "closed" for merged pull requests, too.
    verb: action === 'closed' && pr.merged === true ? 'merged' : action,
    object: { kind: 'pull_request', number: pr.number, sha: pr.head.sha, title: pr.title, url: pr.html_url },
    at: pr.updated_at,
    details: known({
      state: pr.merged === true ? 'merged' : pr.state,
      branch: pr.head.ref,
      baseBranch: pr.base.ref,
      draft: pr.draft,
      label: label?.name,
      assignee: assignee?.login,
      commits: pr.commits,
      additions: pr.additions,
      deletions: pr.deletions,
      changedFiles: pr.changed_files,
      comments: pr.comments,
    }),
  }),
)
