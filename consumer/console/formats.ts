import { FormatRegistry } from '@sinclair/typebox'
import { isTimestamp } from '../../shared/events/event.ts'

/** The formats that the console’s schemas name: TypeBox knows none by itself, and refuses values of unknown ones. */

/** RFC 3339, section 5.6; but no leap seconds, which ECMAScript does not know. */
export function isTime(text: string): boolean {
  return isTimestamp(text) && !Number.isNaN(Date.parse(text))
}

FormatRegistry.Set('date-time', isTime)
FormatRegistry.Set('uri', (text) => URL.canParse(text))
