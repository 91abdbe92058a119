import { Type } from '@sinclair/typebox'
import { encodeControl } from '../../shared/events/control.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import {
  type Answer,
  type Call,
  commonOf,
  DEMANDED_REASON,
  json,
  MAX_LISTED,
  type Route,
  type RouteDeps,
  route,
  TENANT,
  WITH_REASON,
  whole,
} from './route.ts'
import { StreamStatus } from './status.ts'

/** Streams: which there are, how they stand, pausing them, and who did what. */

const StreamList = Type.Object(
  { streams: Type.Array(Type.Object({ tenant: Type.String(), stream: Type.String() })) },
  { title: 'Streams' },
)
const ActList = Type.Object(
  {
    acts: Type.Array(Type.Unknown({ description: 'As they were recorded.' }), { description: 'Newest first.' }),
    complete: Type.Boolean(),
  },
  { title: 'Acts' },
)

export function streamRoutes(deps: RouteDeps): Route[] {
  const { acts, statuses } = deps
  const { streamIn, reading } = commonOf(deps)

  async function control(
    call: Pick<Call, 'tenant' | 'path' | 'by'>,
    act: 'pause' | 'resume',
    reason: string | undefined,
  ): Promise<Answer> {
    const stream = await streamIn(call)
    const { by } = call
    const nowMs = deps.nowMs()
    const record = {
      act,
      id: Bun.randomUUIDv7(),
      time: new Date(nowMs).toISOString(),
      by,
      ...(reason === undefined ? {} : { reason }),
    }
    await acts.of(stream).perform<void>(async () => ({
      records: [
        encodeControl(stream.tenant, stream.name, {
          state: act === 'pause' ? 'paused' : 'running',
          by,
          atMs: nowMs,
          reason: reason ?? '',
        }),
      ],
      acts: [record],
      result: undefined,
    }))
    try {
      return json(await statuses.of(stream, act === 'pause' ? record : undefined))
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error
      const { detail, ...problem } = error.problem
      throw new ProblemError({
        ...problem,
        detail: `The stream is ${act === 'pause' ? 'paused' : 'resumed'}, and its status cannot be read: ${detail}`,
      })
    }
  }

  return [
    route({
      method: 'get',
      path: '/v1/streams',
      name: 'listStreams',
      role: 'read',
      summary: 'The streams that the key may read',
      query: Type.Object(TENANT),
      answers: { 200: { description: 'The streams.', schema: StreamList } },
      run: async ({ tenant, streams }) =>
        json({ streams: [...streams].map((stream) => ({ tenant: tenant.name, stream })) }),
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/status',
      name: 'getStatus',
      role: 'read',
      summary: 'Lag, rates, and which consumer has which partition',
      query: Type.Object(TENANT),
      answers: { 200: { description: 'The status.', schema: StreamStatus } },
      run: async (call) => {
        const stream = await streamIn(call)
        return json(await statuses.of(stream, (await acts.of(stream).current()).paused))
      },
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/pause',
      name: 'pauseStream',
      role: 'operate',
      summary: 'Pause the stream’s processing',
      description:
        'Consumers finish what they have begun, and begin nothing new of it, within seconds. Events are still taken in.',
      query: Type.Object(TENANT),
      body: DEMANDED_REASON,
      answers: { 200: { description: 'The status.', schema: StreamStatus } },
      run: (call) => control(call, 'pause', call.body.reason),
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/resume',
      name: 'resumeStream',
      role: 'operate',
      summary: 'Go on with the stream’s processing',
      query: Type.Object(TENANT),
      body: WITH_REASON,
      answers: { 200: { description: 'The status.', schema: StreamStatus } },
      run: (call) => control(call, 'resume', call.body.reason),
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/acts',
      name: 'listActs',
      role: 'read',
      summary: 'Who did what to the stream and its dead letters, newest first',
      query: Type.Object({ limit: whole(1, MAX_LISTED, 'The most acts.', 50), ...TENANT }),
      answers: { 200: { description: 'The acts.', schema: ActList } },
      run: async (call) => {
        const stream = await streamIn(call)
        return json(
          await reading(call.request, (reader, budget) =>
            acts.of(stream).list(call.query.limit, stream.redact, reader, budget),
          ),
        )
      },
    }),
  ]
}
