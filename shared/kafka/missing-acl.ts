import { CODE, messageOf } from './client.ts'

/** What a client's requests are about. */
interface Used {
  transactionalId?: string
  groupId?: string | undefined
}

/** The error's message; where a permission is missing, with what it takes. */
export function withMissingAcl({ code, message }: { code?: number; message: string }, used: Used): string {
  const { transactionalId, groupId } = used
  const { TRANSACTIONAL_ID_AUTHORIZATION_FAILED: ofId, GROUP_AUTHORIZATION_FAILED: ofGroup } = CODE
  // Once a client has failed, later calls have another code.
  const is = (one: number): boolean => code === one || message.toLowerCase().startsWith(messageOf(one).toLowerCase())
  if (is(ofId) && transactionalId !== undefined) return takes(ofId, 'WRITE', `the transactional ID ${transactionalId}`)
  if (is(ofGroup) && groupId !== undefined) return takes(ofGroup, 'READ', `the group ${groupId}`)
  return message
}

const takes = (code: number, operation: string, resource: string): string =>
  `${messageOf(code)}: it takes an ACL that allows ${operation} on ${resource}; \`bun run kafka-acls\` prints it`
