import { Type } from '@sinclair/typebox'
import { type CommonConfig, commonVariables, loadConfig } from '../service/config.ts'

/** What both services read from the environment, for tests of what both use. */
export const commonConfig = (env: Readonly<Record<string, string>>): CommonConfig =>
  loadConfig(Type.Object(commonVariables), env)
