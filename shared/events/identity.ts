/** The identity of an event (CloudEvents 1.0.2, section 3.1.1): its source and id. */
export const eventIdentity = (source: string, id: string): string => `${source}\n${id}`

/** The identity of a record that is not an event. No source starts with a line feed. */
export const originIdentity = (origin: string): string => `\n${origin}`
