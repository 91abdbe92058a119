/** What modules of handlers import: `import { defineHandler, Type } from 'kafkatrace'`. */
export { type Static, Type } from '@sinclair/typebox'
export type { Event } from '../../shared/events/event.ts'
export type { Context } from '../enrich.ts'
export { type DataSchema, type DocumentSchema, jsonSchema } from './data-schema.ts'
export { defineHandler, type Handled, type Handler, type Handling, RetryableError, TerminalError } from './handler.ts'
export type { Upcaster } from './versions.ts'
