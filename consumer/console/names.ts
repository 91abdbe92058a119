/** Words of the API. Browsers use these, too, so nothing is imported here. */

/** How data is shown. */
export const FORMATS = ['json', 'text', 'hex'] as const
export type Format = (typeof FORMATS)[number]

/** A stream's topics by what they are for. */
export const ROLES_OF_TOPICS = ['input', 'retry', 'dlq', 'processed'] as const
export type RoleOfTopic = (typeof ROLES_OF_TOPICS)[number]
