import { Type } from '@sinclair/typebox'
import { durationMs, known, Timestamp } from '../activity.ts'
import { githubHandler, Name, Nullable } from './webhook.ts'

/** How a deployment is getting on. */
export const deploymentStatus = githubHandler(
  'deployment_status',
  '1',
  {
    deployment_status: Type.Object({
      state: Name,
      description: Nullable(Type.String()),
      environment: Nullable(Type.String()),
      updated_at: Timestamp,
      url: Type.String(),
      log_url: Nullable(Type.String()),
      target_url: Nullable(Type.String()),
    }),
    deployment: Type.Object({
      id: Type.Integer(),
      ref: Name,
      sha: Name,
      environment: Nullable(Type.String()),
      created_at: Timestamp,
    }),
  },
  ({ deployment_status: status, deployment }) => ({
    // The event's action is always "created", of the status and not of what it is about.
    verb: 'reported',
    object: {
      kind: 'deployment',
      id: deployment.id,
      sha: deployment.sha,
      ...known({ title: status.description }),
      // The first is for people; an empty text means none.
      url: status.log_url || status.target_url || status.url,
    },
    at: status.updated_at,
    details: known({
      state: status.state,
      branch: deployment.ref,
      environment: status.environment || deployment.environment,
      durationMs: durationMs(deployment.created_at, status.updated_at),
    }),
  }),
)
