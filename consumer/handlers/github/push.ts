import { Type } from '@sinclair/typebox'
import { Timestamp } from '../activity.ts'
import { githubHandler, Name, Nullable } from './webhook.ts'

const Files = Type.Optional(Type.Array(Type.String()))

/** The last second that RFC 3339 can express: the end of the year 9999. */
const LAST_SECOND = 253_402_300_799

const TAGS = 'refs/tags/'

/** Commits pushed to a branch or tag, or the branch or tag created, deleted or forced elsewhere. */
export const push = githubHandler(
  'push',
  '1',
  {
    ref: Type.String({ pattern: '^refs/(heads|tags)/.' }),
    after: Name,
    created: Type.Boolean(),
    deleted: Type.Boolean(),
    forced: Type.Boolean(),
    compare: Type.String(),
    commits: Type.Array(Type.Object({ added: Files, removed: Files, modified: Files })),
    pusher: Nullable(Type.Object({ name: Name })),
    repository: Type.Object({
      full_name: Name,
      html_url: Type.String(),
      // Only this webhook has seconds since the epoch here; other forges that use its format send a string.
      pushed_at: Type.Union([Type.Integer({ minimum: 0, maximum: LAST_SECOND }), Timestamp]),
    }),
  },
  ({ ref, after, created, deleted, forced, compare, commits, repository: { pushed_at }, sender, pusher }) => {
    const isTag = ref.startsWith(TAGS)
    const files = commits.flatMap(({ added = [], removed = [], modified = [] }) => [...added, ...removed, ...modified])
    return {
      ...(sender || !pusher ? {} : { actor: { login: pusher.name } }),
      verb: deleted ? 'deleted' : created ? 'created' : forced ? 'force_pushed' : 'pushed',
      object: {
        kind: isTag ? 'tag' : 'branch',
        ref,
        name: ref.slice(isTag ? TAGS.length : 'refs/heads/'.length),
        // After a deletion it is all zeros, which is no commit.
        ...(deleted ? {} : { sha: after }),
        url: compare,
      },
      at: typeof pushed_at === 'number' ? new Date(pushed_at * 1000).toISOString() : pushed_at,
      details: { forced, commits: commits.length, changedFiles: new Set(files).size },
    }
  },
)
