import type { ProducerConfig } from './config.ts'
export const openApi = (_config: ProducerConfig) => ({ openapi: '3.1.0' })
