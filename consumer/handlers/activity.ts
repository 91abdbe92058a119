import { type Static, Type } from '@sinclair/typebox'

/** The CloudEvents type of the results of handlers of repository events. */
export const ACTIVITY_TYPE = 'dev.kafkatrace.activity.v1'

/** RFC 3339, section 5.6: a date and time with an offset. */
export const Timestamp = Type.String({
  pattern: '^\\d{4}-\\d{2}-\\d{2}[Tt]\\d{2}:\\d{2}:\\d{2}(\\.\\d+)?([Zz]|[+-]\\d{2}:\\d{2})$',
})

/** A whole number of 0 or more. */
export const Count = Type.Integer({ minimum: 0 })

const Name = Type.String({ minLength: 1 })

/** Who did what to which object of a repository, and when: one shape for all kinds of events and all services. */
export const Activity = Type.Object(
  {
    repository: Type.Object({ name: Name, url: Type.String() }, { additionalProperties: false }),
    /** null when the sender's account is deleted or not given. */
    actor: Type.Union([
      Type.Object({ login: Name, id: Type.Optional(Type.Integer()) }, { additionalProperties: false }),
      Type.Null(),
    ]),
    /** What was done, in the words of the source: `opened`, `pushed`, `completed` … */
    verb: Name,
    object: Type.Object(
      {
        kind: Type.Union([
          Type.Literal('branch'),
          Type.Literal('tag'),
          Type.Literal('pull_request'),
          Type.Literal('issue'),
          Type.Literal('comment'),
          Type.Literal('release'),
          Type.Literal('deployment'),
          Type.Literal('check_run'),
          Type.Literal('workflow_run'),
        ]),
        /** The number within the repository: of an issue, a pull request, a workflow run. */
        number: Type.Optional(Count),
        /** The source's own id, where there is no number. */
        id: Type.Optional(Type.Integer()),
        /** Of a branch or tag: the full name, `refs/heads/main`. */
        ref: Type.Optional(Name),
        /** The commit that the object stands at or concerns. */
        sha: Type.Optional(Name),
        /** A short name: of the branch, the tag, the workflow, the check. */
        name: Type.Optional(Name),
        title: Type.Optional(Type.String()),
        /** A page for people. */
        url: Type.String(),
      },
      { additionalProperties: false },
    ),
    at: Timestamp,
    /** More facts; which of them exist depends on the object's kind. */
    details: Type.Object(
      {
        state: Type.Optional(Name),
        conclusion: Type.Optional(Name),
        branch: Type.Optional(Name),
        baseBranch: Type.Optional(Name),
        environment: Type.Optional(Name),
        trigger: Type.Optional(Name),
        label: Type.Optional(Name),
        assignee: Type.Optional(Name),
        draft: Type.Optional(Type.Boolean()),
        prerelease: Type.Optional(Type.Boolean()),
        forced: Type.Optional(Type.Boolean()),
        onPullRequest: Type.Optional(Type.Boolean()),
        commits: Type.Optional(Count),
        additions: Type.Optional(Count),
        deletions: Type.Optional(Count),
        changedFiles: Type.Optional(Count),
        comments: Type.Optional(Count),
        characters: Type.Optional(Count),
        assets: Type.Optional(Count),
        attempt: Type.Optional(Count),
        durationMs: Type.Optional(Count),
      },
      { additionalProperties: false },
    ),
  },
  { $id: ACTIVITY_TYPE, additionalProperties: false },
)

export type Activity = Static<typeof Activity>

/** Whole milliseconds between two timestamps; undefined when one is missing or the end comes first. */
export function durationMs(from: string | null | undefined, to: string | null | undefined): number | undefined {
  if (from === null || from === undefined || to === null || to === undefined) return undefined
  const ms = Date.parse(to) - Date.parse(from)
  return ms >= 0 ? ms : undefined
}

/** An object without its undefined, null and empty-string fields, for the optional properties of an activity. */
export function known<T extends Record<string, unknown>>(fields: T): Known<T> {
  const kept = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== '')
  return Object.fromEntries(kept) as Known<T>
}

/** What {@link known} leaves: every field optional, none of them null or undefined. */
type Known<T> = { [K in keyof T]?: NonNullable<T[K]> }
