import { Type } from '@sinclair/typebox'
import { type CommonConfig, commonVariables, loadConfig } from '../service/config.ts'

/** The variables that both services read, for tests of shared code. */
export const commonConfig = (env: Readonly<Record<string, string>>): CommonConfig =>
  loadConfig(Type.Object(commonVariables), env)
