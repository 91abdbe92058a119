import type { Authorise, Authorised } from '../shared/http/authorise.ts'

/** Who sends a request, and to which stream. The key needs the role `send`. */

/** Decides whether a request may write to a stream. */
export type Authenticate = (request: Request, stream: string) => Authorised | Promise<Authorised>

export const authenticateBy =
  (authorise: Authorise): Authenticate =>
  (request, stream) =>
    authorise(request, { role: 'send', tenant: undefined, stream })
