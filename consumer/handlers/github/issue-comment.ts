import { Type } from '@sinclair/typebox'
import { known, Timestamp } from '../activity.ts'
import { Issue } from './issues.ts'
import { githubHandler, Name, Nullable } from './webhook.ts'

/** A comment on an issue or pull request was created, edited or deleted. Only the length of its text is kept. */
export const issueComment = githubHandler(
  'issue_comment',
  '1',
  {
    action: Name,
    issue: Issue,
    comment: Type.Object({
      id: Type.Integer(),
      html_url: Type.String(),
      body: Nullable(Type.String()),
      updated_at: Timestamp,
    }),
  },
  ({ action, issue, comment }) => ({
    verb: action,
    object: {
      kind: 'comment',
      number: issue.number,
      id: comment.id,
      title: issue.title,
      url: comment.html_url,
    },
    at: comment.updated_at,
    details: known({
      state: issue.state,
      onPullRequest: issue.pull_request !== undefined && issue.pull_request !== null,
      characters: comment.body?.length,
      comments: issue.comments,
    }),
  }),
)
