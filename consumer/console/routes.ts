import { eventRoutes } from './event-routes.ts'
import { jobRoutes } from './job-routes.ts'
import { letterRoutes } from './letter-routes.ts'
import type { Route, RouteDeps } from './route.ts'
import { schemaRoutes } from './schema-routes.ts'
import { streamRoutes } from './stream-routes.ts'

/** What the console answers: one table, from which come the routes, the access rules and the OpenAPI description. */
export const routes = (deps: RouteDeps): Route[] => [
  ...streamRoutes(deps),
  ...eventRoutes(deps),
  ...letterRoutes(deps),
  ...jobRoutes(deps),
  ...schemaRoutes(deps),
]
