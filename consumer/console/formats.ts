import { FormatRegistry } from '@sinclair/typebox'
import { isTime } from '../../shared/events/event.ts'

/** The formats that the console’s schemas name: TypeBox knows none by itself, and refuses values of unknown ones. */

FormatRegistry.Set('date-time', isTime)
FormatRegistry.Set('uri', (text) => URL.canParse(text))
