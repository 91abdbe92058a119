import { Type } from '@sinclair/typebox'
import { Count, known, Timestamp } from '../activity.ts'
import { Account, githubHandler, Name, Nullable } from './webhook.ts'

/** The properties of an issue that both events about issues use. For GitHub, pull requests are issues with a `pull_request`. */
export const Issue = Type.Object({
  number: Count,
  title: Type.String(),
  html_url: Type.String(),
  // Absent for an issue that was just transferred or deleted.
  state: Nullable(Name),
  updated_at: Timestamp,
  comments: Nullable(Count),
  pull_request: Nullable(Type.Object({})),
})

/** An issue was opened, changed, labelled, assigned, closed … */
export const issues = githubHandler(
  'issues',
  '1',
  { action: Name, issue: Issue, label: Nullable(Type.Object({ name: Name })), assignee: Nullable(Account) },
  ({ action, issue, label, assignee }) => ({
    verb: action,
    object: { kind: 'issue', number: issue.number, title: issue.title, url: issue.html_url },
    at: issue.updated_at,
    details: known({
      state: issue.state,
      label: label?.name,
      assignee: assignee?.login,
      comments: issue.comments,
    }),
  }),
)
