import { ProblemError } from '../../shared/http/problem.ts'
import type { Tenant } from '../../shared/http/tenants.ts'
import { Slots } from '../lanes.ts'

/** Limits that tenants share: with several tenants, none has more of one than stays free for the others. */

/** Under which operators of all tenants are counted. No tenant has such a name. */
export const OPERATORS = '*'

/** Who is counted for a request. */
export const callerOf = ({
  tenant,
  everything,
}: {
  tenant: Pick<Tenant, 'name'>
  everything(): readonly unknown[]
}): string => (everything().length > 1 ? OPERATORS : tenant.name)

export interface Sharing {
  /** Whether there are several tenants now. */
  isShared(): boolean
  /** A request was refused. @param caller a tenant, or {@link OPERATORS} */
  onCrowded(caller: string): void
}

export const UNSHARED: Sharing = { isShared: () => false, onCrowded: () => undefined }

export class Share extends Slots {
  constructor(
    limit: number,
    readonly sharing: Sharing,
  ) {
    super(limit, sharing.isShared)
  }

  /** Why the caller gets none. @param what are limited */
  refusal(caller: string, what: string, retryAfterSeconds: number): ProblemError {
    this.sharing.onCrowded(caller)
    const share = this.sharing.isShared() ? ' One of several tenants may have as many as stay free for the others.' : ''
    return new ProblemError({
      kind: 'overloaded',
      detail: `There is no room for another within the ${this.limit} ${what}.${share} Try again later.`,
      retryAfterSeconds,
    })
  }
}
