/** Words of the API. Browsers use these, too, so nothing is imported here. */

/** How data is shown. */
export const FORMATS = ['json', 'text', 'hex'] as const
export type Format = (typeof FORMATS)[number]

/** What was done to a dead letter. */
export const LETTER_STATES = ['open', 'redriven', 'discarded'] as const
export type LetterState = (typeof LETTER_STATES)[number]

/** A stream's topics by what they are for. */
export const ROLES_OF_TOPICS = ['input', 'retry', 'dlq', 'processed'] as const
export type RoleOfTopic = (typeof ROLES_OF_TOPICS)[number]

/** What a key may consist of, to stand in a header of HTTP. */
export const KEY_TEXT = /^[\x21-\x7e]+$/
