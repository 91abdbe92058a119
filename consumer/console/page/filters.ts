import type { LetterFilter } from '../acts-log.ts'
import type { BrowseFilter } from '../client.ts'
import { FORMATS, ROLES_OF_TOPICS } from '../names.ts'

/** What the API is asked for, from the parameters of the page's address. Empty ones are left out. */

const PAGE_RECORDS = 100

export const hasFailures = (topic: string | undefined): boolean => topic === 'dlq' || topic === 'retry'

/** Records. Reasons and handlers are of failures only. */
export function browseFilterIn(parameters: Readonly<Record<string, string>>): BrowseFilter {
  const { topic, order, format, cursor, partition, offset, header, where, reason, handler, ...rest } = parameters
  const given = Object.fromEntries(
    (['type', 'subject', 'id', 'source', 'from', 'to'] as const).flatMap((name) =>
      rest[name] ? [[name, rest[name]]] : [],
    ),
  )
  return {
    ...given,
    ...(hasFailures(topic) && reason && { reason }),
    ...(hasFailures(topic) && handler && { handler }),
    ...(header && { header: [header] }),
    ...(where && { where: [where] }),
    ...(partition && { partition: Number(partition) }),
    ...(offset && { offset: Number(offset) }),
    topic: ROLES_OF_TOPICS.find((one) => one === topic) ?? 'input',
    order: order === 'oldest' ? 'oldest' : 'newest',
    format: FORMATS.find((one) => one === format) ?? 'json',
    ...(cursor && { cursor }),
    limit: PAGE_RECORDS,
  }
}

/** Dead letters. */
export const letterFilterIn = ({
  reason,
  type,
  handler,
  from,
  to,
}: Readonly<Record<string, string>>): LetterFilter => ({
  ...(reason && { reason }),
  ...(type && { type }),
  ...(handler && { handler }),
  ...(from && { from }),
  ...(to && { to }),
})
