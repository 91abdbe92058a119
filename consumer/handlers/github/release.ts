import { Type } from '@sinclair/typebox'
import { known, Timestamp } from '../activity.ts'
import { githubHandler, Name, Nullable } from './webhook.ts'

/** A release was drafted, published, edited or deleted. */
export const release = githubHandler(
  'release',
  '1',
  {
    action: Name,
    release: Type.Object({
      id: Type.Integer(),
      tag_name: Name,
      name: Nullable(Type.String()),
      target_commitish: Nullable(Type.String()),
      html_url: Type.String(),
      draft: Nullable(Type.Boolean()),
      prerelease: Nullable(Type.Boolean()),
      created_at: Timestamp,
      // null while it is a draft.
      published_at: Nullable(Timestamp),
      assets: Nullable(Type.Array(Type.Unknown())),
    }),
  },
  ({ action, release: one }) => ({
    verb: action,
    object: {
      kind: 'release',
      id: one.id,
      ref: `refs/tags/${one.tag_name}`,
      name: one.tag_name,
      ...known({ title: one.name }),
      url: one.html_url,
    },
    at: one.published_at ?? one.created_at,
    details: known({
      branch: one.target_commitish,
      draft: one.draft,
      prerelease: one.prerelease,
      assets: one.assets?.length,
    }),
  }),
)
