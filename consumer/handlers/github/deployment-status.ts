import { Type } from '@sinclair/typebox'
import { durationMs, known, Timestamp } from '../activity.ts'
import { githubHandler, Name, Nullable } from './webhook.ts'

/** The status of a deployment has changed. */
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
    // The action is always "created": it is that of the status, not of the deployment.
    verb: 'reported',
    object: {
      kind: 'deployment',
      id: deployment.id,
      sha: deployment.sha,
      ...known({ title: status.description }),
      // The first two are pages for people; an empty string means none.
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
