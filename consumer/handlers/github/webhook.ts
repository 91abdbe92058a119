import { type Static, type TObject, type TProperties, type TSchema, Type } from '@sinclair/typebox'
import { ACTIVITY_TYPE, type Activity } from '../activity.ts'
import type { Handler } from '../handler.ts'

/** The event type of a GitHub webhook: this and the name in its `X-GitHub-Event` header. */
export const TYPE_PREFIX = 'com.github.'

/** A property that GitHub sends as null, or omits, when it has no value. */
export const Nullable = <S extends TSchema>(schema: S) => Type.Optional(Type.Union([schema, Type.Null()]))

/** A non-empty string, since an activity is named by it. */
export const Name = Type.String({ minLength: 1 })

export const Account = Type.Object({ login: Name, id: Type.Integer() })

/** The properties that every payload about a repository has. */
const common = {
  repository: Type.Object({ full_name: Name, html_url: Type.String() }),
  // Deploy keys and deleted accounts act without one.
  sender: Nullable(Account),
}

/** A payload with the common properties and those of one event. */
type Payload<P extends TProperties> = Static<TObject<typeof common>> & Static<TObject<P>>

/** An activity without what all payloads have in common; `actor` replaces the payload's `sender`. */
export type ActivityFields = Omit<Activity, 'repository' | 'actor'> & { actor?: Activity['actor'] }

/**
 * A handler of one GitHub webhook event whose data is the payload as GitHub sent it.
 * @param name as in `X-GitHub-Event`
 * @param properties what `read` uses of the payload beside its repository and sender; nothing else is required
 */
export function githubHandler<P extends TProperties>(
  name: string,
  version: string,
  properties: P,
  read: (payload: Payload<P>) => ActivityFields,
): Handler {
  return {
    type: `${TYPE_PREFIX}${name}`,
    version,
    schema: Type.Object({ ...common, ...properties }),
    handle(data) {
      // Checked by the compiled schema; TypeScript cannot type the spread of a generic.
      const payload = data as Payload<P>
      const { sender, repository } = payload
      const activity: Activity = {
        repository: { name: repository.full_name, url: repository.html_url },
        actor: sender === null || sender === undefined ? null : { login: sender.login, id: sender.id },
        ...read(payload),
      }
      return { type: ACTIVITY_TYPE, data: activity }
    },
  }
}
