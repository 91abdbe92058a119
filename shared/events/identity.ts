/** What makes an event the same event (CloudEvents 1.0.2, section 3.1.1): its source and id together. */
export const eventIdentity = (source: string, id: string): string => `${source}\n${id}`

/** Stands in for source and id where there are none. No source starts with a line feed. */
export const originIdentity = (origin: string): string => `\n${origin}`
